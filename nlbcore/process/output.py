"""Lines to a file, a pipe or a terminal, without ever waiting for it: what it does not take now is kept, and tried again."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that pass: somebody makes room."""
_TRY_DISK = 1.0
"""Seconds between two tries to write to a full disk."""
_TRY_READER = 0.05
"""Seconds between two tries where the system says that there is room, and then that there is none (some terminals)."""


class Output:
    """Where the lines go: the access log.

    A pipe is given whole lines of at most PIPE_BUF bytes, as far as they are so short: they stay whole though others write
    to it too. A line that had to be left unfinished is ended before the next one begins.

    Args:
        fd: the caller's, who closes it after `use()` of another one; -1 for none

    Attributes:
        error: what the last try came to, None for good
        lost: bytes that could not be written, and never will be
    """

    def __init__(self, fd: int) -> None:
        self.error: OSError | None = None
        self.lost = 0
        self._fd = self._own = -1
        self._lines = b""
        self._done = 0  # of them is written
        self._torn = False  # what was written last is no whole line
        self._not_before = 0.0
        self._given_up = False
        self.use(fd)

    @property
    def waits(self) -> bool:
        """Whether something is left that was not taken yet."""
        return len(self._lines) > 0

    def use(self, fd: int) -> None:
        """Write to this one from now on; a line that is not finished there is written whole here."""
        if fd < 0:
            self._lines = b""
        if fd < 0 or self._fd < 0 or not os.path.sameopenfile(self._fd, fd):
            self._lines = self._lines[self._lines.rfind(b"\n", 0, self._done) + 1 :]
            self._done = 0
            self._torn = False
            self._not_before = 0.0
        if self._own >= 0:
            os.close(self._own)
        self._fd, self._own = fd, -1
        self._is_file = fd >= 0 and stat.S_ISREG(os.fstat(fd).st_mode)
        if fd >= 0 and not self._is_file:
            self._own = _reopened(fd)

    def give_up(self) -> None:
        """Wait no more: what is not taken at once is lost."""
        self._given_up = True

    def put(self, lines: bytes) -> None:
        """Write more of them; not while it `waits`."""
        if lines and self._fd >= 0:
            self._lines, self._done = b"\n" * self._torn + lines, 0
            self.flush()

    def flush(self) -> None:
        """Write what is left, as much as is taken now."""
        while self.waits:
            written = self._written()
            if written < 0:
                if self._given_up:
                    self._lose()
                return
            if written:
                self._done += written
                self._torn = self._lines[self._done - 1 : self._done] != b"\n"
            if self._done == len(self._lines):
                self._lines = b""

    def _written(self) -> int:
        """How many bytes of the next piece were; -1 to try later."""
        if time.monotonic() < self._not_before and not self._given_up:
            return -1
        try:
            if self._own < 0 and not self._is_file and _would_wait(self._fd):
                return -1
            written = os.write(self._fd if self._own < 0 else self._own, self._piece())
        except BlockingIOError:
            if not _would_wait(self._fd):
                self._not_before = time.monotonic() + _TRY_READER
            return -1
        except OSError as error:
            self.error = error
            if error.errno in _FULL:
                self._not_before = time.monotonic() + _TRY_DISK
                return -1
            self._lose()
            return 0
        self.error = None
        return written

    def _piece(self) -> bytes:
        if self._is_file:
            return self._lines[self._done :]
        piece = self._lines[self._done : self._done + select.PIPE_BUF]
        return piece[: piece.rfind(b"\n") + 1] or piece

    def _lose(self) -> None:
        self.lost += len(self._lines) - self._done
        self._lines = b""

    def watch(self, poll: select.poll) -> float:
        """While it `waits`: make `poll` watch for when more is taken; in how many seconds to try in any case."""
        pause = self._not_before - time.monotonic()
        if pause > 0:
            return pause
        poll.register(self._fd if self._own < 0 else self._own, select.POLLOUT)
        return _TRY_DISK

    def wait(self, seconds: float) -> None:
        """For a moment when it may take more, at most so long."""
        poll = select.poll()
        seconds = min(seconds, self.watch(poll))
        poll.poll(seconds * 1000)


def _would_wait(fd: int) -> bool:
    """An error is no wait."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return not poll.poll(0)


def _reopened(fd: int) -> int:
    """The same pipe or terminal, but so that a write does not wait: only for us, since others share that flag of `fd`.

    -1 when that cannot be (a socket, the terminal of another user): then one has to look before each write.
    """
    with contextlib.suppress(OSError):
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return -1
