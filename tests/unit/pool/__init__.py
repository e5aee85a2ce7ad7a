"""Tests of nlbcore.pool."""
