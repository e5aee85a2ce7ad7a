"""Black-box tests: the installed `nlb` as a subprocess, real sockets, real clients, real servers. One behaviour per file."""
