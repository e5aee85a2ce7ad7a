"""Ports that no other test, test process or outgoing connection takes.

A bound socket cannot hold a port for `nlb` (it probes for a second listener), so a lock file does: one per port, in a folder
shared by all test processes of this user, held until this process ends. The ports lie below the kernel's range for outgoing
connections.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_FOLDER = Path(tempfile.gettempdir()) / f"nlb-test-ports-{os.getuid()}"
_held: list[int] = []


def free_port() -> int:
    """A TCP port that is free on 127.0.0.1 and ::1 and stays reserved for this process."""
    _FOLDER.mkdir(exist_ok=True)
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(2000):
        port = random.randrange(10_000, max(low, 12_000))
        lock = os.open(_FOLDER / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        if _is_free(socket.AF_INET, "127.0.0.1", port) and _is_free(socket.AF_INET6, "::1", port):
            _held.append(lock)
            return port
        os.close(lock)
    raise AssertionError("no free port found")


def reserved() -> int:
    """How many ports this process holds, each with one open descriptor."""
    return len(_held)


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            return family == socket.AF_INET6 and error.errno != errno.EADDRINUSE
    return True
