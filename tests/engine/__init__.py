"""Tests of nlbcore.engine; most of them go through its door for tests, which release builds do not have."""
