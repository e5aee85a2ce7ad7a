"""Tests of `nlbcore.tls`, one file per module."""
