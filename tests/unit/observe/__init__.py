"""Tests of nlbcore.observe."""
