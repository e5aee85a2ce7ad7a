"""When a process that has died is started again, and in which words its end is told."""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Backoff:
    """The delays before the restarts of one process: longer with each failure in a row, up to the last.

    Args:
        delays: seconds, the shortest first

    Attributes:
        due: when it is started again, on the caller's clock
    """

    def __init__(self, delays: Sequence[float]) -> None:
        self._delays = delays
        self._failures = 0
        self.due = 0.0

    def fail(self, now: float, at_most: float = math.inf) -> float:
        """It has failed: in how many seconds from `now` it is started again, `at_most` this time."""
        delay = min(self._delays[min(self._failures, len(self._delays) - 1)], at_most)
        self._failures += 1
        self.due = now + delay
        return delay

    def despair(self) -> None:
        """It would not be better in a second: the next delay is the longest."""
        self._failures = len(self._delays)

    def settled(self) -> None:
        """It has lived long enough: its next failure counts as the first."""
        self._failures = 0


def ended_by(status: int) -> str:
    """`SIGKILL` or `exit status 3`, for the exit code of a process as `subprocess` and `os.waitstatus_to_exitcode` tell it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # most real-time signals have no name
        return f"signal {-status}"
