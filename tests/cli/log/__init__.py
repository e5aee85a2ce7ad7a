"""Tests of `nlb log`, one file per command."""
