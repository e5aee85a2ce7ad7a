"""The log writer: drains every worker's log ring into the access log and the event log.

Started by the supervisor with fork and **exec**, so it has no key in its memory: it parses what strangers sent. It says
that it is ready on its control socket, and ends when that does, after a last look at the rings. What cannot be written
(the reader is gone, the disk is full) is lost, and said in the event log; the balancer goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import setproctitle

from nlbcore.observe import access_log
from nlbcore.observe.log import EventLog, write_all
from nlbcore.process.attendant import ignore_signals
from nlbcore.segment import RING, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.segment import Ring

_ATTENTION = 0.25
"""Seconds after which the rings are looked at in any case."""

_TELL_AFTER = 1.0
_BATCH = 256 * 1024


@dataclass(frozen=True)
class Orders:
    """What the log writer is started with, as JSON in its argument: descriptors that it inherits, and the level.

    Attributes:
        segment: the segment's memfd
        eventfd: becomes readable when a worker has written and the log writer sleeps
        control: a socket; a byte on it says that we are ready, its end is the order to finish
        access: the access log, -1 for none
        events: the event log
        level: least severe event that is written
    """

    segment: int
    eventfd: int
    control: int
    access: int
    events: int
    level: str

    @property
    def inherited(self) -> tuple[int, ...]:
        return tuple({fd for fd in (self.segment, self.eventfd, self.control, self.access, self.events) if fd >= 0})

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]


class LogWriter:
    """Reads rings, writes lines."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.segment = Segment(orders.segment)
        self.events = EventLog(orders.events, orders.level)
        self.names = access_log.Names.of(self.segment.directory())
        self.rings = [self.segment.block(slot).ring for slot in range(self.segment.slots)]
        self.dropped = [int(ring.dropped) for ring in self.rings]
        self.unreadable = 0
        self.told = -_TELL_AFTER
        self.failed = False
        self.torn = False  # the last line that was written is not whole

    def run(self) -> None:
        """Until the control socket ends."""
        with contextlib.suppress(BrokenPipeError):  # nobody waits for us to begin: the balancer ends
            os.write(self.orders.control, b"R")
        with selectors.DefaultSelector() as selector:
            selector.register(self.orders.control, selectors.EVENT_READ)
            selector.register(self.orders.eventfd, selectors.EVENT_READ)
            ended = False
            while not ended:
                self._sleep(on=True)
                if not self.drain():
                    for key, _ in selector.select(_ATTENTION):
                        if key.fd == self.orders.eventfd:
                            os.read(self.orders.eventfd, 8)
                        else:
                            ended = True
                self._sleep(on=False)
                while self.drain():
                    pass

    def _sleep(self, *, on: bool) -> None:
        for ring in self.rings:
            ring.asleep = on

    def drain(self) -> bool:
        """Write out what is in the rings now; whether there was anything."""
        found = False
        for slot, ring in enumerate(self.rings):
            lines = []
            size = 0
            try:
                for record in _records(ring):
                    found = True
                    lines.append(self._line(record, slot))
                    size += len(lines[-1])
                    if size > _BATCH:
                        self._write(lines)
                        lines, size = [], 0
            except DamagedError:
                self._report_unreadable(slot)
            self._write(lines)
            self._report_dropped(slot, ring)
        return found

    def _line(self, record: bytes, slot: int) -> bytes:
        """The line of an access record; an event goes its own way. One record that cannot be told must not end all."""
        try:
            event = access_log.event(record)
            if event is not None:
                self.events.line(*event)
            elif self.orders.access >= 0:
                return access_log.line(record, slot, self.names)
        except Exception:  # noqa: BLE001 - strangers have a hand in what is parsed here
            self._report_unreadable(slot)
        return b""

    def _report_unreadable(self, slot: int) -> None:
        """Once a second at most: a worker that writes nonsense would write it without end."""
        self.unreadable += 1
        now = time.monotonic()
        if now - self.told >= _TELL_AFTER:
            self.events.event("error", "record_unreadable", worker=slot, count=self.unreadable)
            self.told, self.unreadable = now, 0

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        if not data:
            return
        if self.torn:
            data = b"\n" + data
        written = write_all(self.orders.access, data)
        self.torn = self.torn if written == 0 else data[written - 1 : written] != b"\n"
        if written < len(data) and not self.failed:
            self.events.event("error", "access_log_failed", lost_bytes=len(data) - written)
        self.failed = written < len(data)

    def _report_dropped(self, slot: int, ring: Ring) -> None:
        dropped = int(ring.dropped) - self.dropped[slot]
        if dropped:
            self.dropped[slot] += dropped
            self.events.event("warning", "log_ring_full", worker=slot, dropped=dropped)


class DamagedError(Exception):
    """What stands in a ring is no record; it has been emptied."""


def _records(ring: Ring) -> Iterator[bytes]:
    """Take the complete records out of a ring.

    Raises:
        DamagedError: its worker has written nonsense
    """
    data = memoryview(ring.data).cast("B")
    head, tail = int(ring.head), int(ring.tail)
    while tail < head:
        size = access_log.size_of(_at(data, tail, 4)) if head - tail <= RING else 0
        if not access_log.SIZE <= size <= head - tail:
            ring.tail = head
            raise DamagedError
        yield _at(data, tail, size)
        tail += size
        ring.tail = tail
    if tail > head:
        ring.tail = head
        raise DamagedError


def _at(data: memoryview, position: int, size: int) -> bytes:
    """`size` bytes at a position of the ring, around its end."""
    start = position % RING
    first = bytes(data[start : start + size])
    return first + bytes(data[: size - len(first)])


def main() -> None:
    ignore_signals()
    setproctitle.setproctitle("nlb: log writer")
    LogWriter(Orders(**json.loads(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
