"""The log writer: drains every worker's log ring into the access log and the event log.

Started by the supervisor with fork and **exec**, so it has no key in its memory: it parses what strangers sent. It ends
when its control socket does, after a last look at the rings. It waits for nobody: while the access log cannot be written
(nobody reads the pipe, the disk is full) the records stay in their rings, and the workers count what finds no room there.
What can never be written (the reader is gone) is lost, and said in the event log; the balancer goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import setproctitle

from nlbcore.facts import Facts
from nlbcore.observe import access_log
from nlbcore.observe.log import STDERR, EventLog
from nlbcore.process.attendant import BEAT, beat, close_all, hear, ignore_signals, received, say
from nlbcore.process.output import Output
from nlbcore.segment import RING, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.segment import Ring

_TELL_AFTER = 1.0
"""Seconds between two events that say the same of a worker."""
_LAST = 2.0
"""Seconds that a slow reader has to take what is left at the end; less than the supervisor's patience."""
_BATCH = 64 * 1024
_NAP = 0.005
"""Seconds that it rests between two looks while records keep coming: nobody has to wake it then."""


@dataclass(frozen=True)
class Orders:
    """What the log writer is started with, as JSON in its argument: descriptors that it inherits, and how to write.

    Attributes:
        segment: the segment's memfd
        facts: the facts' memfd
        eventfd: becomes readable when a worker has written and the log writer sleeps
        control: our end of the control socket
        access: the access log, -1 for none
        events: the event log
        level: least severe event that is written
        format: of the event log
    """

    DESCRIPTORS: ClassVar[tuple[str, ...]] = ("segment", "facts", "eventfd", "control", "access", "events")

    segment: int
    facts: int
    eventfd: int
    control: int
    access: int
    events: int
    level: str
    format: Literal["text", "json"]

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]


class LogWriter:
    """Reads rings, writes lines."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.segment = Segment(orders.segment)
        self.facts = Facts(orders.facts)
        self.events = EventLog(orders.events, orders.level, orders.format)
        self.output = Output(orders.access)
        self.names = access_log.Names.of({})
        self.named_at = -1
        self.rings: list[Ring] = []
        self.dropped: list[int] = []
        self.turn = 0  # whose ring is the next
        self.unreadable = 0
        self.told_unreadable = self.told_dropped = -_TELL_AFTER
        self.failed = False  # and told
        self.told_lost = 0
        self.ended = False
        self._look_for_slots()
        self.dropped = [int(ring.dropped) for ring in self.rings]

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the control socket ends."""
        with socket.socket(fileno=self.orders.control) as self.control:
            say(self.control, {"say": "ready"})
            while not self.ended:
                beat(self.segment, "log_writer")
                if found := self.drain():
                    self._listen(0.0 if found >= _BATCH else _NAP)
                    continue
                self._sleep(on=True)
                self._listen(0.0 if self.drain() else BEAT)
                self._sleep(on=False)
            self._finish()

    def _sleep(self, *, on: bool) -> None:
        for ring in self.rings:
            ring.asleep = on

    def _listen(self, seconds: float) -> None:
        """Wait for orders, and for work: records, or somebody who takes what waits to be written."""
        poll = select.poll()
        poll.register(self.orders.control, select.POLLIN)
        if self.output.waits:
            seconds = min(seconds, self.output.watch(poll))
        else:
            poll.register(self.orders.eventfd, select.POLLIN)
        for fd, _ in poll.poll(seconds * 1000):
            if fd == self.orders.control:
                self._hear()
            elif fd == self.orders.eventfd:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 8)

    def _hear(self) -> None:
        heard = hear(self.control)
        if heard is None:
            self.ended = True
            return
        packet, fds = heard
        if "orders" in packet:
            new = received(Orders, packet, fds)
            self.obey(new)
            fds = [fd for fd in fds if fd not in (new.access, new.events)]
        close_all(fds)

    def obey(self, new: Orders) -> None:
        """New orders: logs, level and format; everything else stays as it is."""
        old = self.orders
        self.output.use(new.access)
        self.events.fd = new.events
        self.events.format = new.format
        self.events.set_level(new.level)
        self.orders = replace(old, access=new.access, events=new.events, level=new.level, format=new.format)
        for ring in self.rings:
            ring.muted = new.access < 0
        close_all({fd for fd in (old.access, old.events) if fd > STDERR} - {new.access, new.events})

    def _finish(self) -> None:
        """A last look; what nobody takes is lost."""
        deadline = time.monotonic() + _LAST
        while self.drain() or self.output.waits:
            beat(self.segment, "log_writer")
            if self.output.waits:
                self.output.wait(BEAT)
                if time.monotonic() >= deadline:
                    self.output.give_up()
        self.told_dropped = -_TELL_AFTER
        self._report_dropped()
        if self.output.lost > self.told_lost:
            self._tell_output("error", "access_log_failed", error="it was not taken in time")

    # -- records ------------------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """Write out some of what is in each ring: how many bytes of it. While the access log takes nothing more, it stays
        there.
        """
        self._look_for_slots()
        found = 0
        self.output.flush()
        self._report_output()
        for _ in self.rings:
            if self.output.waits:
                break
            found += self._drain_ring(self.turn)
            self.turn = (self.turn + 1) % len(self.rings)
        self._report_dropped()
        return found

    def _look_for_slots(self) -> None:
        for slot in range(len(self.rings), self.segment.used):
            self.rings.append(self.segment.block(slot).ring)
            self.rings[slot].muted = self.orders.access < 0
            self.dropped.append(0)

    def _drain_ring(self, slot: int) -> int:
        lines = []
        size = 0
        try:
            for record in _records(self.rings[slot]):
                lines.append(self._line(record, slot))
                size += len(record)
                if size > _BATCH:
                    break
        except DamagedError:
            self._report_unreadable(slot)
        self.output.put(b"".join(lines))
        self._report_output()
        return size

    def _line(self, record: bytes, slot: int) -> bytes:
        """The line of an access record; an event goes its own way. One record that cannot be told must not end all."""
        try:
            event = access_log.event(record)
            if event is not None:
                self.events.line(*event)
            elif self.orders.access >= 0:
                self._read_names()
                return access_log.line(record, slot, self.names)
        except Exception:  # noqa: BLE001 - strangers have a hand in what is parsed here
            self._report_unreadable(slot)
        return b""

    def _read_names(self) -> None:
        """For each record anew: the supervisor publishes a name before a worker can use it."""
        sequence = self.facts.sequence
        if sequence == self.named_at or sequence % 2:
            return
        with contextlib.suppress(TimeoutError):  # stopped in the middle of a change: the old ones are good
            facts = self.facts.read()
            self.names = access_log.Names.of({"node": facts.get("node", ""), **facts.get("names", {})})
            self.named_at = sequence

    # -- what is told -------------------------------------------------------------------------------------------------

    def _report_unreadable(self, slot: int) -> None:
        """Once a second at most: a worker that writes nonsense would write it without end."""
        self.unreadable += 1
        now = time.monotonic()
        if now - self.told_unreadable >= _TELL_AFTER:
            self.events.event("error", "record_unreadable", worker=slot, count=self.unreadable)
            self.told_unreadable, self.unreadable = now, 0

    def _report_output(self) -> None:
        """Each failure is told once, and its end."""
        error = self.output.error
        if error is not None and not self.failed:
            self._tell_output("error", "access_log_failed", error=(error.strerror or str(error)).lower())
        elif error is None and self.failed:
            self._tell_output("info", "access_log_recovered")
        self.failed = error is not None

    def _tell_output(self, level: str, event: str, **fields: str) -> None:
        self.events.event(level, event, **fields, lost_bytes=self.output.lost - self.told_lost)
        self.told_lost = self.output.lost

    def _report_dropped(self) -> None:
        """Once a second at most: a ring that nobody empties loses every record."""
        now = time.monotonic()
        if now - self.told_dropped < _TELL_AFTER:
            return
        for slot, ring in enumerate(self.rings):
            dropped, self.dropped[slot] = int(ring.dropped) - self.dropped[slot], int(ring.dropped)
            if dropped > 0:
                self.events.event("warning", "log_ring_full", worker=slot, dropped=dropped)
                self.told_dropped = now


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
        tail += size
        record = _at(data, tail - size, size)
        ring.tail = tail
        yield record
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
