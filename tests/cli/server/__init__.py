"""Tests of `nlb server`, one file per command."""
