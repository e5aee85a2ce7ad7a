"""Tests of `nlbcore.control`, one file per module."""
