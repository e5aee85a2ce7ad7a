"""Processors of a proxy's own. Its clients and servers would be on other machines, and take it none there; here they are kept
to the processors that are left, as far as there are enough.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field


def _allowed() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Apart:
    """How the processors that this process may use are shared out; the first ones have most of the interrupts."""

    workers: int
    """Of a proxy, each with a processor of its own."""
    processors: tuple[int, ...] = field(default_factory=_allowed)

    @property
    def others(self) -> tuple[int, ...]:
        """For all the rest; all where there are too few to keep them apart."""
        return self.processors[: -self.workers] or self.processors

    def own(self, workers: int) -> tuple[int, ...]:
        """For a proxy with so many workers; all where none would be left."""
        return self.processors[-workers:] if workers < len(self.processors) else self.processors


@contextlib.contextmanager
def kept_to(processors: tuple[int, ...]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, keeps to these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
