"""Tests of `nlb ca ...`, one file per command."""
