"""Asking a balancer again and again: what `nlb top` knows of it, in good times and while nobody answers."""

from __future__ import annotations

import threading  # noqa: TID251 - a window that waits for an answer must still hear its keys; no balancer runs in here
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nlbcli._top_chart import Series
from nlbcli._top_rates import Frame, Rate, Sample, frame
from nlbcore.control.client import call
from nlbcore.errors import NlbError

PATIENCE = 2.0
"""Seconds for an answer; who does not give one so long is said to be silent."""


@dataclass(frozen=True)
class Failure:
    """No answer: when that was known, and why."""

    moment: float
    reason: str


def ask(path: Path, patience: float = PATIENCE) -> Sample:
    """One answer to `status`.

    Raises:
        NlbError: as `nlbcore.control.client.call()`
    """
    status = call(path, "status", timeout=patience)
    return Sample(time.monotonic(), status)


class Watch:
    """What is known after some answers and failures."""

    def __init__(self, first: Sample) -> None:
        self.connections = Series()
        self.handshakes = Series()
        self.last = first
        self.frame: Frame = frame(None, first)
        self.failure: Failure | None = None
        self.connections.add(first.moment, self.frame.head.connections)

    def take(self, found: Sample | Failure) -> None:
        """One more answer, or none: then the last one stays."""
        if isinstance(found, Sample):
            try:
                self.frame, self.last, self.failure = frame(self.last, found), found, None
            except NlbError as error:
                found = Failure(found.moment, str(error))
        if isinstance(found, Failure):
            self.failure = found
        head = self.frame.head
        well = self.failure is None
        self.connections.add(found.moment, head.connections if well else None)
        self.handshakes.add(found.moment, _sum(head.full, head.resumed) if well else None)

    def silent(self, now: float) -> float | None:
        """Seconds since the last answer; None while all is well."""
        return None if self.failure is None else max(0.0, now - self.last.moment)


class Poller:
    """Asks every `interval` seconds, in a thread, and tells what it found, there.

    The thread is a daemon: the program does not wait at its end for an answer that may not come.
    """

    def __init__(self, path: Path, interval: float, tell: Callable[[Sample | Failure], object]) -> None:
        self._path = path
        self._interval = interval
        self._tell = tell
        self._wake = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    @property
    def interval(self) -> float:
        """Seconds from one question to the next; one that is set holds at once."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        with self._wake:
            self._interval = seconds
            self._wake.notify()

    def start(self) -> None:
        """Ask from now on; the first time after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        with self._wake:
            self._running = False
            self._wake.notify()

    def _run(self) -> None:
        asked = time.monotonic()
        while self._wait(asked):
            asked = time.monotonic()
            found: Sample | Failure
            try:
                found = ask(self._path)
            except NlbError as error:
                found = Failure(time.monotonic(), str(error))
            if self._running:
                self._tell(found)

    def _wait(self, asked: float) -> bool:
        """Until an interval after `asked`; False: it is over."""
        with self._wake:
            while self._running and (left := asked + self._interval - time.monotonic()) > 0:
                self._wake.wait(left)
            return self._running


def _sum(one: Rate, other: Rate) -> Rate:
    return one if other is None else other if one is None else one + other
