"""Listening sockets: one for each worker slot and address, made by the supervisor and kept by it until it stops.

TCP sockets are bound with SO_REUSEPORT, so that the kernel spreads connections over the slots. That would also let a
second balancer share the port silently, so each address is first bound without it. A Unix socket is one for all slots.
Options that accepted sockets inherit (TCP_NODELAY, SO_KEEPALIVE) are set here once instead of on each connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError

if TYPE_CHECKING:
    from nlbcore.address import Endpoint

BACKLOG = 4096


def listen(endpoint: Endpoint, slots: int) -> list[socket.socket]:
    """A listening socket for each slot.

    Raises:
        StartError: the address cannot be bound (exit code 77 when a permission is missing)
    """
    try:
        if endpoint.family == socket.AF_UNIX:
            return _listen_unix(endpoint) * slots
        _probe(endpoint)
        return [_listen_tcp(endpoint) for _ in range(slots)]
    except OSError as error:
        raise _start_error(endpoint, error) from None


def _bound(endpoint: Endpoint, *, reuseport: bool) -> socket.socket:
    made = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(endpoint.sockaddr())
    except OSError:
        made.close()
        raise
    return made


def _probe(endpoint: Endpoint) -> None:
    _bound(endpoint, reuseport=False).close()


def _listen_tcp(endpoint: Endpoint) -> socket.socket:
    made = _bound(endpoint, reuseport=True)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.listen(BACKLOG)
    return made


def _listen_unix(endpoint: Endpoint) -> list[socket.socket]:
    """A Unix socket; one that a dead process has left behind is replaced, one that is served is not."""
    path = Path(str(endpoint.path))
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise OSError(errno.EEXIST, "")
    if path.exists() and _abandoned(path):
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.bind(str(path))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return [made]


def inode(path: str | Path) -> tuple[int, int]:
    """What a name in the file system stands for now: device and number."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def remove(path: Path, known: tuple[int, int]) -> None:
    """Remove a Unix socket's name, unless it is another one's by now: a balancer that came while we were draining."""
    with contextlib.suppress(OSError):
        if inode(path) == known:
            path.unlink()


def _abandoned(path: Path) -> bool:
    """Whether nobody listens there. A full queue is a process that hangs: it is there all the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


def _start_error(endpoint: Endpoint, error: OSError) -> StartError:
    hints = {
        errno.EADDRINUSE: "another process listens there",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.ENOENT: "the folder does not exist",
        errno.EEXIST: "something else has that name, and it is not removed",
    }
    reason = hints.get(error.errno or 0, error.strerror or str(error))
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_FAILED
    return StartError(f"cannot listen on {endpoint}: {reason}", code)
