"""Tests of `nlbcore.config`, one file per module."""
