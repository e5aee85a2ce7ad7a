"""Unix sockets that have a name: made with care for what has the name already, and taken away with care for who has it now.

A socket's name stays behind when its process dies, and has to be removed before another can have it. So that nothing else
is lost that way, only a socket that nobody serves is replaced, and only one's own is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path


def bind(path: Path, backlog: int, mode: int | None = None) -> socket.socket:
    """Listen at a path; a socket that a dead process has left there is replaced, one that is served is not.

    Args:
        path: as the kernel takes it, at most 107 bytes
        backlog: connections that may wait to be accepted
        mode: who may connect, from the first moment on; None: what the umask allows
    Returns:
        a socket that does not block
    Raises:
        OSError: EADDRINUSE: it is served; EEXIST: something that is no socket has the name, and keeps it
    """
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    with contextlib.suppress(FileNotFoundError):
        known = inode(path)
        if abandoned(path):
            remove(path, known)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = None if mode is None else os.umask(0o777 & ~mode)
    try:
        made.bind(str(path))
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    finally:
        if before is not None:
            os.umask(before)
    return made


def abandoned(path: Path) -> bool:
    """Whether a socket is there and nobody listens. A full queue is a process that hangs: it is there all the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


def inode(path: str | Path) -> tuple[int, int]:
    """What a name in the file system stands for now: device and number.

    Raises:
        OSError: nothing has it
    """
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def remove(path: Path, known: tuple[int, int]) -> None:
    """Remove a socket's name, unless it is another one's by now: a balancer that came while we were draining.

    Ours is to be open still: only then the kernel gives its inode number to no other file.
    """
    with contextlib.suppress(OSError):
        if inode(path) == known:
            path.unlink()


def replace(path: Path, temporary: Path) -> None:
    """Give the socket that is bound at `temporary` the name `path` in one step: who connects meets the old or the new one.

    Raises:
        OSError: EEXIST: something that is no socket has the name, and keeps it
    """
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    temporary.rename(path)
