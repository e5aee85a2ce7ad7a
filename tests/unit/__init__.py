"""Tests of one module each, without processes: the path of a test is the path of its source."""
