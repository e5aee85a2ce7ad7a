"""The pid file (`[node] pid_file`): the supervisor's process id, for programs that know no better way to find it.

It is a note, not a lock. That a balancer lives is proven by the lock beside its control socket; a number in a file proves
nothing, because the process that has it now may be any other. So a pid file that is there is replaced, whether its process
lives or not: after a crash it is stale, and in an upgrade both supervisors live for a while. Only what is no pid file at
all is not touched: a slip in the configuration must not cost somebody's file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError

if TYPE_CHECKING:
    from pathlib import Path

_CONTENT = re.compile(rb"\s*[0-9]{0,10}\s*")
_MODE = 0o644


def write(path: Path) -> None:
    """Write our process id, in one step: who reads it finds the former one or ours, and always a whole one.

    Raises:
        StartError: it cannot be written, or something else has the name (exit code 77 when a permission is missing)
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        found = _read(path)
        if found is not None and not _CONTENT.fullmatch(found):
            raise OSError(errno.EEXIST, "")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()  # of a former process with our number
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.fchmod(fd, _MODE)  # whatever the umask says
            os.write(fd, _ours())
            temporary.rename(path)
        except OSError:
            temporary.unlink()
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise _start_error(path, error) from None


def remove(path: Path) -> None:
    """Remove it, unless it is another one's by now."""
    with contextlib.suppress(OSError):
        if _read(path) == _ours():
            path.unlink()


def _ours() -> bytes:
    return f"{os.getpid()}\n".encode()


def _read(path: Path) -> bytes | None:
    """The beginning of what is there, None if nothing is.

    Raises:
        OSError: EEXIST, ELOOP: it is no file (a FIFO is not waited for, a symbolic link not followed)
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "")
        return os.read(fd, 64)
    finally:
        os.close(fd)


def _start_error(path: Path, error: OSError) -> StartError:
    hints = {
        errno.ENOENT: "the folder does not exist",
        errno.EEXIST: "something else has that name, and it is not replaced",
        errno.ELOOP: "it is a symbolic link, and not replaced",
        errno.EACCES: "permission denied; set [node] pid_file to a path that this user can write",
    }
    reason = hints.get(error.errno or 0) or (error.strerror or str(error)).lower()
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_FAILED
    return StartError(f"cannot write the pid file {path}: {reason}", code)
