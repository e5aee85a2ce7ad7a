"""The two logs of the supervisor: opened, opened again after they were moved away (USR1), changed by a reload.

The access log is written by the log writer; here is only its descriptor. A log that cannot be opened again leaves the old
one in use: better lines in the wrong file than none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.observe.log import EventLog, open_target

if TYPE_CHECKING:
    from pathlib import Path

    from nlbcore.config.model import Log


class Logs:
    """Both of them.

    Args:
        config: where they go
    Raises:
        StartError: one cannot be opened (exit code 77 when a permission is missing)

    Attributes:
        events: the event log
        access: descriptor of the access log, -1 for none
    """

    def __init__(self, config: Log) -> None:
        self._config = config
        events, self.access = _open(config)
        self.events = EventLog(events, config.level, config.format)

    def prepare(self, config: Log) -> tuple[int, int]:
        """The descriptors for another configuration, for `change()`.

        Raises:
            StartError: one cannot be opened; nothing has changed
        """
        return _open(config)

    def change(self, config: Log, opened: tuple[int, int]) -> None:
        """Write as `config` says from now on."""
        old = (self.events.fd, self.access)
        self.events.fd, self.access = opened
        self.events.format = config.format
        if config.level != self._config.level:  # else one that was given at run time stays
            self.events.set_level(config.level)
        self._config = config
        discard(old)

    def reopen(self) -> None:
        """Open both anew under their names."""
        try:
            self.change(self._config, _open(self._config))
        except StartError as error:
            self.events.event("error", "logs_not_reopened", error=str(error))
        else:
            self.events.event("info", "logs_reopened")


def discard(opened: tuple[int, int]) -> None:
    """Close what `prepare()` has opened and nobody wants."""
    for fd in opened:
        if fd > 2:
            os.close(fd)


def _open(config: Log) -> tuple[int, int]:
    events = _open_one(config.file)
    try:
        return events, -1 if config.access == "off" else _open_one(config.access)
    except StartError:
        discard((events, -1))
        raise


def _open_one(target: str | Path) -> int:
    try:
        return open_target(target)
    except OSError as error:
        code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_FAILED
        raise StartError(f"cannot write the log {target}: {error.strerror}", code) from None
