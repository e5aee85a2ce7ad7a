"""An errand: something that all workers do once beside their work, and that somebody waits for.

Each answers when it is done. One that dies or hangs is not waited for: the answer is then that of the others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 5.0
"""Seconds."""


class Errand:
    """Waits for the answers.

    Args:
        answer: the command of a worker's answer
        finished: called once, with the number of each slot that has answered and what it has counted
    """

    def __init__(self, answer: str, finished: Callable[[dict[int, int]], None]) -> None:
        self.answer = answer
        self.until = time.monotonic() + PATIENCE
        self.answers: dict[int, int] = {}
        self._finished: Callable[[dict[int, int]], None] | None = finished
        self._waiting: set[int] = set()

    def wait_for(self, slot: int) -> None:
        self._waiting.add(slot)

    def done(self, slot: int, count: int) -> None:
        """The worker in that slot has answered."""
        if slot in self._waiting:
            self.answers[slot] = count
            self.gone(slot)

    def gone(self, slot: int) -> None:
        """Nobody needs to wait for the worker in that slot."""
        self._waiting.discard(slot)
        if not self._waiting:
            self.finish()

    def finish(self) -> None:
        """Wait no longer."""
        if self._finished is not None:
            finished, self._finished = self._finished, None
            finished(self.answers)

    @property
    def over(self) -> bool:
        return self._finished is None
