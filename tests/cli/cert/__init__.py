"""Tests of `nlb cert ...`, one file per command."""
