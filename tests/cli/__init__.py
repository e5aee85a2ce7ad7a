"""Tests of the command, as users run it: the installed `nlb` as a subprocess."""
