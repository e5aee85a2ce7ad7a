"""Tests of `nlb config ...`, one file per command."""
