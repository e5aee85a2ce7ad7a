"""The event log: one line an event, on stderr or in a file.

As text ``TIME LEVEL EVENT key=value ...`` (logfmt), as JSON ``{"time", "level", "event", key: value ...}``. A field that
has the name of one of these three is written with an underscore behind it.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import select
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Literal

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
STDERR = 2
_FIELD = re.compile(r'([^\s"=]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)')
_FIELDS = re.compile(rf"([^\s\"=]+)((?: {_FIELD.pattern})*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_OWN = frozenset({"time", "level", "event"})


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
    """Whether a write of up to PIPE_BUF bytes would not wait: a file always, a pipe or terminal if somebody reads it."""
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    return any(answer & select.POLLOUT for _, answer in waiting.poll(0))


class EventLog:
    """Writes events of at least `level` to `fd`, each in one write so that processes can share the file.

    A log must never stop the balancer: an event that would have to wait for a stuck reader is dropped and counted, as is
    one that cannot be written (the disk is full); the next one that can be is told how many.

    Attributes:
        fd: another may take its place at any time (a log file that is reopened)
        level: the least severe level that is written
        format: how
        dropped: events lost so far
    """

    def __init__(self, fd: int, level: str, format: Literal["text", "json"] = "text") -> None:  # noqa: A002 - the option
        self.fd = fd
        self.format = format
        self.dropped = 0
        self._told = 0
        self._torn = False  # the last line that was written is not whole
        self.set_level(level)

    def set_level(self, level: str) -> None:
        self.level = level
        self._least = LEVELS[level]

    def line(self, seconds: float, level: int, text: str) -> None:
        """An event that is already text, ``EVENT key=value ...``, with its own time."""
        if level < self._least:
            return
        name = next((name for name, number in LEVELS.items() if number >= level), "error")
        if self.format == "text":
            self._write(f"{timestamp(seconds)} {name} {_printable(text)}")
        else:
            self._write(_json(seconds, name, *_parsed(text)))

    def event(self, level: str, event: str, /, **fields: object) -> None:
        """An event with its fields; as text, values with spaces or quotes are quoted as JSON."""
        if LEVELS[level] >= self._least:
            self._write(self._formatted(level, event, fields))

    def _formatted(self, level: str, event: str, fields: dict[str, object]) -> str:
        now = datetime.datetime.now(datetime.UTC).timestamp()
        if self.format == "text":
            values = (f" {key}={_value(value)}" for key, value in fields.items())
            return f"{timestamp(now)} {level} {event}{''.join(values)}"
        return _json(now, level, event, fields.items())

    def _write(self, line: str) -> None:
        if self.dropped > self._told:
            lost = self._formatted("error", "log_lines_dropped", {"count": self.dropped - self._told})
            if self._written(lost):
                self._told = self.dropped
        if not self._written(line):
            self.dropped += 1

    def _written(self, line: str) -> bool:
        """A line longer than what a pipe is sure to take goes into one in pieces: it must not wait in the middle either."""
        data = line.encode(errors="backslashreplace") + b"\n"
        if self._torn:
            data = b"\n" + data
        done = 0
        while done < len(data) and takes(self.fd):
            piece = data[done:] if _is_file(self.fd) else data[done : done + select.PIPE_BUF]
            written = write_all(self.fd, piece)
            done += written
            if written < len(piece):
                break
        if done:
            self._torn = done < len(data)
        return done == len(data)


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _parsed(text: str) -> tuple[str, list[tuple[str, object]]]:
    """Name and fields of an event that is text; what does not look like one is all name."""
    found = _FIELDS.fullmatch(text)
    if found is None:
        return text, []
    return found[1], [(key, _read(value)) for key, value in _FIELD.findall(found[2])]


def _read(value: str) -> object:
    if _NUMBER.fullmatch(value):
        return int(value)
    if not value.startswith('"'):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _json(seconds: float, level: str, event: str, fields: Iterable[tuple[str, object]]) -> str:
    document: dict[str, object] = {"time": timestamp(seconds), "level": level, "event": _clean(event)}
    for key, value in fields:
        plain = value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        document[f"{key}_" if key in _OWN else key] = value if plain else _clean(str(value))
    return _dumps(document)


def _value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain else _dumps(text)


def _printable(text: str) -> str:
    """Text of a worker, which may have been taken over: it begins no line and moves no cursor."""
    return (
        text
        if text.isprintable()
        else "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    )


def _dumps(value: object) -> str:
    """JSON in ASCII; it lets DEL through, which a terminal obeys."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _clean(text: str) -> str:
    """Half a surrogate pair (a name that is no UTF-8) is no Unicode: strict readers of JSON refuse the whole line."""
    return text.encode(errors="backslashreplace").decode()
