"""Socket activation: listening sockets that systemd has opened before it started us (sd_listen_fds(3)).

They are descriptors 3, 4, ... in the number of $LISTEN_FDS, named by $LISTEN_FDNAMES, for the process $LISTEN_PID. They
were bound without us, so a port below 1024 needs no privilege, and clients wait in their queues while nobody serves. One
inherited socket is one queue for all worker slots: they cannot have one each, as with SO_REUSEPORT.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from nlbcore.errors import StartError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_FIRST = 3
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_UNNAMED = "unknown"
"""What systemd calls a socket without FileDescriptorName= (a unit's sockets are otherwise named after it)."""


def inherited(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Take over what systemd hands to this process, and take the variables out of `environ`: they are for no child.

    Returns:
        the sockets of each name in systemd's order, not inheritable and not blocking; nothing if it hands over nothing
    Raises:
        StartError: one of them is no listening stream socket
    """
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()):
        return {}
    if not count.isdecimal():
        raise StartError(f'LISTEN_FDS="{count}" of the environment is no number')
    known = names.split(":") if names else [_UNNAMED] * int(count)
    if len(known) != int(count):
        raise StartError(f'LISTEN_FDS="{count}" and LISTEN_FDNAMES="{names}" of the environment do not agree')
    with contextlib.ExitStack() as undo:
        found: dict[str, list[socket.socket]] = {}
        for fd, name in enumerate(known, _FIRST):
            taken = _take(fd, name)
            undo.callback(taken.close)
            found.setdefault(name, []).append(taken)
        undo.pop_all()
    return found


def _take(fd: int, name: str) -> socket.socket:
    try:
        taken = socket.socket(fileno=fd)
    except OSError as error:
        raise StartError(f"systemd:{name}: descriptor {fd} is no socket: {error.strerror}") from None
    if (
        taken.family not in _FAMILIES
        or taken.type != socket.SOCK_STREAM
        or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        taken.close()
        raise StartError(
            f"systemd:{name}: descriptor {fd} is no listening stream socket: "
            "its .socket unit needs ListenStream= and Accept=no"
        )
    taken.set_inheritable(False)
    taken.setblocking(False)
    return taken
