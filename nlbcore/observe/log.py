"""The event log: one line an event, ``TIME LEVEL EVENT key=value ...`` (logfmt), on stderr or in a file."""

from __future__ import annotations

import datetime
import json
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
STDERR = 2


def timestamp(seconds: float) -> str:
    """UTC with milliseconds, as in both logs."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def open_target(target: str | Path) -> int:
    """The descriptor of a log: 1, 2, or a file opened for appending (0640)."""
    if target in ("stdout", "stderr"):
        return {"stdout": 1, "stderr": STDERR}[str(target)]
    return os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def write_all(fd: int, data: bytes) -> int:
    """Write as much as possible; how many bytes. Fewer when the reader is gone or the disk is full."""
    done = 0
    try:
        while done < len(data):
            done += os.write(fd, data[done:])
    except OSError:
        pass
    return done


def takes(fd: int) -> bool:
    """Whether a write would not wait: a file always, a pipe or terminal if somebody reads it."""
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    return any(answer & select.POLLOUT for _, answer in waiting.poll(0))


class EventLog:
    """Writes events of at least `level` to `fd`, each in one write so that processes can share the file.

    A log must never stop the balancer: an event that would have to wait for a stuck reader is dropped.
    """

    def __init__(self, fd: int, level: str) -> None:
        self.fd = fd
        self._least = LEVELS[level]

    def line(self, seconds: float, level: int, text: str) -> None:
        """An event that is already text, with its own time."""
        if level >= self._least and takes(self.fd):
            name = next((name for name, number in LEVELS.items() if number >= level), "error")
            write_all(self.fd, f"{timestamp(seconds)} {name} {text}\n".encode(errors="backslashreplace"))

    def event(self, level: str, event: str, /, **fields: object) -> None:
        """An event with its fields; values with spaces or quotes are quoted as JSON."""
        now = datetime.datetime.now(datetime.UTC).timestamp()
        self.line(now, LEVELS[level], " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items())]))


def _value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text)
