"""Tests of `nlbcore.pki`, one file per module; the judge of what it makes is openssl."""
