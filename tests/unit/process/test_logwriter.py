"""The log writer reads its rings to the last record, around their end, and outlives every reader and every disk.

Records are put into the rings of a real segment as the engine does; `LogWriter` runs in this process, and once as the
process it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import select
import socket
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlbcore.engine.journal import record_layout
from nlbcore.observe import access_log
from nlbcore.process.logwriter import LogWriter, Orders
from nlbcore.segment import RING, Segment
from nlbcore.termination import Termination

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nlbcore.segment import Ring

FORMAT, SIZE = record_layout()
DIRECTORY = {"node": "n1", "listeners": {"0": "web"}, "groups": {"0": "app"}, "servers": {"0": "a"}}


def record(
    number: int, name: bytes = b"", *, kind: int = access_log.ACCESS, level: int = 0, detail: bytes = b""
) -> bytes:
    """An access record with a connection number and a server name, or an event."""
    word = level or int(Termination.CLIENT_CLOSE)
    head = (SIZE + len(name) + len(detail), kind, word, 0, 0, b"", 0, 0, 0, access_log.NO_ROW, 0, 1, 0, 0, 0)
    rest = (number, 0, 0, 0, -1, -1, 0, 0, 0, len(name), 0, len(detail), 0)
    return struct.pack(FORMAT, *head, *rest) + name + detail


def put(ring: Ring, data: bytes) -> bool:
    """Write a record as the engine does; False when it was dropped."""
    if ring.head - ring.tail + len(data) > RING:
        ring.dropped += 1
        return False
    at = ring.head % RING
    first = data[: RING - at]
    ctypes.memmove(ctypes.addressof(ring.data) + at, first, len(first))
    ctypes.memmove(ctypes.addressof(ring.data), data[len(first) :], len(data) - len(first))
    ring.head += len(data)
    return True


@dataclass
class Bench:
    """A segment of two workers, a log writer, and the two files it writes to."""

    segment: Segment
    writer: LogWriter
    access: Path
    events: Path

    def ring(self, slot: int = 0) -> Ring:
        return self.segment.block(slot).ring  # type: ignore[no-any-return]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.access.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with opened(tmp_path) as made:
        yield made


@contextlib.contextmanager
def opened(folder: Path, access: str | None = None, level: str = "debug", start: int = 0) -> Iterator[Bench]:
    paths = folder / "access.log", folder / "events.log"
    segment = Segment.create(2)
    segment.write_directory(DIRECTORY)
    for slot in range(2):
        ring = segment.block(slot).ring
        ring.head = ring.tail = start
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in (access or paths[0], paths[1])]
    made = Bench(segment, LogWriter(Orders(segment.fd, -1, -1, fds[0], fds[1], level)), *paths)
    fds.append(segment.fd)
    try:
        yield made
    finally:
        # The mapping has a descriptor of its own, until the last reference is gone.
        del segment, ring, made.segment, made.writer
        for fd in fds:
            os.close(fd)


def test_nothing(bench: Bench) -> None:
    assert not bench.writer.drain()
    assert bench.lines() == []


def test_all_rings_are_read(bench: Bench) -> None:
    for slot in (0, 1):
        for number in (1, 2):
            put(bench.ring(slot), record(number, b"x.example"))
    assert bench.writer.drain()
    assert [(line["worker"], line["connection"]) for line in bench.lines()] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert bench.lines()[0]["listener"] == "web"
    assert bench.ring().tail == bench.ring().head
    assert not bench.writer.drain()


@pytest.mark.parametrize(
    ("head", "content"), [(1000, b""), (1000, b"\xff" * 1000), (RING + 1, b""), (2**63, b""), (8, b"\x07\0\0\0")]
)
def test_nonsense_in_a_ring_is_told_and_thrown_away(bench: Bench, head: int, content: bytes) -> None:
    """A worker that has been taken over writes what it likes: no endless loop, no flood, and the others are heard."""
    for _ in range(3):
        ring = bench.ring(0)
        ring.tail = 0
        ctypes.memmove(ring.data, content.ljust(1000, b"\0"), 1000)
        ring.head = head
        put(bench.ring(1), record(1, b"x.example"))
        bench.writer.drain()
        assert ring.tail == ring.head
    assert len(bench.lines()) == 3
    assert bench.events.read_text().count("record_unreadable worker=0 count=1") == 1


@pytest.mark.parametrize("before", [1, 3, 4, 5, SIZE - 1, SIZE, SIZE + 1, SIZE + 5])
def test_around_the_end(tmp_path: Path, before: int) -> None:
    """A record that begins so many bytes before the end of the ring: its size, its head or its texts go around."""
    with opened(tmp_path, start=5 * RING - before) as bench:
        put(bench.ring(), record(1, b"around.example"))
        put(bench.ring(), record(2))
        assert bench.writer.drain()
        assert [(line["connection"], line.get("domain_name")) for line in bench.lines()] == [
            (1, "around.example"),
            (2, None),
        ]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 60_000), max_size=60), st.randoms())
def test_any_sizes_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chance: random.Random
) -> None:
    with opened(tmp_path_factory.mktemp("log"), start=RING - 1000) as bench:
        expected = []
        for number, size in enumerate(sizes):
            if put(bench.ring(), record(number, b"n" * size)):
                expected.append((number, size))
            if chance.random() < 0.2:
                bench.writer.drain()
        bench.writer.drain()
        assert [(line["connection"], len(line.get("domain_name", ""))) for line in bench.lines()] == expected
        assert len(expected) + bench.ring().dropped == len(sizes)


def test_a_full_ring_is_read_whole_and_the_loss_is_told(bench: Bench) -> None:
    written = 0
    while put(bench.ring(1), record(written, b"n" * 1000)):
        written += 1
    put(bench.ring(1), record(0, b"n" * 1000))
    assert bench.writer.drain()
    assert len(bench.lines()) == written
    assert bench.events.read_text().split(" ", 1)[1] == "warning log_ring_full worker=1 dropped=2\n"
    bench.writer.drain()
    assert bench.events.read_text().count("log_ring_full") == 1, "each loss is told once"
    bench.ring(1).dropped += 1
    bench.writer.drain()
    assert bench.events.read_text().splitlines()[1].endswith("dropped=1")


def test_what_was_dropped_before_the_start_is_not_told_again(bench: Bench) -> None:
    bench.ring().dropped = 5
    LogWriter(bench.writer.orders).drain()
    assert bench.events.read_text() == ""


def test_events_have_their_own_log(bench: Bench) -> None:
    put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"accept_failed n=1"))
    put(bench.ring(), record(2))
    assert bench.writer.drain()
    assert bench.events.read_text() == "1970-01-01T00:00:00.000Z warning accept_failed n=1\n"
    assert [line["connection"] for line in bench.lines()] == [2]


def test_events_below_the_level(tmp_path: Path) -> None:
    with opened(tmp_path, level="error") as bench:
        put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"x"))
        assert bench.writer.drain()
        assert bench.events.read_text() == ""


def test_no_access_log(bench: Bench) -> None:
    writer = LogWriter(Orders(bench.segment.fd, -1, -1, -1, bench.writer.orders.events, "info"))
    put(bench.ring(), record(1))
    assert writer.drain()
    assert bench.ring().tail == bench.ring().head
    assert bench.lines() == []


def test_a_full_disk_is_told_once_and_survived(tmp_path: Path) -> None:
    with opened(tmp_path, access="/dev/full") as bench:
        for number in range(3):
            put(bench.ring(), record(number))
            put(bench.ring(), record(number))
            assert bench.writer.drain()
        assert bench.ring().tail == bench.ring().head
        assert (
            bench.events.read_text().split(" ", 1)[1]
            == f"error access_log_failed lost_bytes={2 * len(bench.writer._line(record(0), 0))}\n"
        )


def test_a_reader_that_goes_and_one_that_comes_back(bench: Bench) -> None:
    source, target = os.pipe()
    os.close(source)
    writer = LogWriter(Orders(bench.segment.fd, -1, -1, target, bench.writer.orders.events, "info"))
    put(bench.ring(), record(1))
    assert writer.drain()
    assert bench.events.read_text().count("access_log_failed") == 1
    os.dup2(writer.orders.events, target)
    put(bench.ring(), record(2))
    assert writer.drain()
    assert '"connection": 2' in bench.events.read_text()
    os.close(target)
    put(bench.ring(), record(3))
    assert writer.drain()
    assert bench.events.read_text().count("access_log_failed") == 2, "the next failure is news again"


def test_many_lines_are_written_in_batches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line does not wait for a whole ring, and no write is endless."""
    sizes: list[int] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    for number in range(900):
        put(bench.ring(), record(number, b"n" * 900))
    assert bench.writer.drain()
    assert len(bench.lines()) == 900
    assert len(sizes) > 2
    assert max(sizes) < 300_000


def test_orders() -> None:
    orders = Orders(3, 4, 5, -1, 2, "info")
    assert sorted(orders.inherited) == [2, 3, 4, 5]
    assert json.loads(orders.command()[-1]) == {
        "segment": 3,
        "eventfd": 4,
        "control": 5,
        "access": -1,
        "events": 2,
        "level": "info",
    }
    assert orders.command()[1:4] == ["-P", "-m", "nlbcore.process.logwriter"]


def test_as_a_process(tmp_path: Path) -> None:
    """It says that it is ready, writes when it is woken, ignores the signals of a terminal, and ends with its control socket
    after a last look.
    """
    ours, theirs = socket.socketpair()
    eventfd = os.eventfd(0)
    with opened(tmp_path) as bench, ours, theirs:
        theirs.setblocking(False)
        orders = bench.writer.orders
        orders = Orders(bench.segment.fd, eventfd, theirs.fileno(), orders.access, orders.events, "info")
        process = subprocess.Popen(orders.command(), pass_fds=orders.inherited)
        try:
            ours.settimeout(20)
            assert ours.recv(1) == b"R"
            assert select.select([ours], [], [], 0)[0] == []
            process.send_signal(2)
            process.send_signal(15)
            put(bench.ring(), record(1))
            os.eventfd_write(eventfd, 1)
            wait_for_lines(bench, 1)
            put(bench.ring(1), record(2))
            theirs.close()
            ours.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            os.close(eventfd)
        assert [line["connection"] for line in bench.lines()] == [1, 2]
        assert bench.ring().asleep == 0


def wait_for_lines(bench: Bench, count: int) -> None:
    from tests.support.waiting import wait_until

    wait_until(lambda: bench.access.read_text().count("\n") >= count, "the line is written")
