"""Tests of `nlbcore.process`, one file per module."""
