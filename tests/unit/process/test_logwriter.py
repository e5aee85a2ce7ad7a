"""The log writer reads its rings to the last record, around their end, and waits for no reader and no disk.

Records are put into the rings of a real segment as the engine does; `LogWriter` runs in this process, and once as the
process it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import socket
import struct
import subprocess
from dataclasses import replace
from io import FileIO
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlbcore.engine.journal import record_layout
from nlbcore.facts import Facts
from nlbcore.observe import access_log
from nlbcore.process.attendant import hear, say
from nlbcore.process.logwriter import LogWriter, Orders
from nlbcore.segment import HEARTS, RING, Segment
from nlbcore.termination import Termination
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nlbcore.segment import Ring

FORMAT, SIZE = record_layout()
FACTS = {"node": "n1", "names": {"listeners": {"0": "web"}, "groups": {"0": "app"}, "servers": {"0": "a"}}}


def record(
    number: int, name: bytes = b"", *, kind: int = access_log.ACCESS, level: int = 0, detail: bytes = b""
) -> bytes:
    """An access record with a connection number and a server name, or an event."""
    word = level or int(Termination.CLIENT_CLOSE)
    head = (SIZE + len(name) + len(detail), kind, word, 0, 0, 0, b"", 0, 0, 0, access_log.NO_ROW, 0, 1, 0, 0, 0)
    rest = (number, 0, 0, 0, -1, -1, 0, 0, 0, len(name), 0, 0, 0, 0, len(detail), 0)
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


class Bench:
    """A segment of two workers, their names, a log writer, and the two files it writes to.

    Args:
        access: another access log: a path, or a descriptor that stays the caller's
        start: the first position in the rings
    """

    def __init__(self, folder: Path, access: str | int = "", level: str = "debug", start: int = 0) -> None:
        self.access, self.events = folder / "access.log", folder / "events.log"
        self.segment = Segment.create(4)
        self.segment.use(2)
        for slot in range(2):
            self.ring(slot).head = self.ring(slot).tail = start
        self.facts = Facts.create()
        self.facts.publish(FACTS)
        self.fds = [self.segment.fd, self.facts.fd]
        self.orders = Orders(
            segment=self.segment.fd,
            facts=self.facts.fd,
            eventfd=-1,
            control=-1,
            access=access if isinstance(access, int) else self.open(access or self.access),
            events=self.open(self.events),
            level=level,
            format="text",
        )
        self.writer = LogWriter(self.orders)

    def open(self, path: str | Path) -> int:
        self.fds.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return self.fds[-1]

    def ring(self, slot: int = 0) -> Ring:
        return self.segment.block(slot).ring  # type: ignore[no-any-return]

    def drain(self) -> bool:
        """Until nothing is left, or nothing goes on."""
        found = False
        while self.writer.drain():
            found = True
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.access.read_text().splitlines()]

    def told(self, event: str = "") -> list[str]:
        """Events without their time."""
        lines = [line.partition(" ")[2] for line in self.events.read_text().splitlines()]
        return [line for line in lines if not event or line.split()[1] == event]

    def close(self) -> None:
        self.writer.output.use(-1)
        # The mapping has a descriptor of its own, until the last reference is gone.
        del self.segment, self.facts, self.writer
        for fd in self.fds:
            with contextlib.suppress(OSError):  # the log writer has closed it, after new orders
                os.close(fd)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with opened(tmp_path) as made:
        yield made


@contextlib.contextmanager
def opened(folder: Path, access: str | int = "", level: str = "debug", start: int = 0) -> Iterator[Bench]:
    made = Bench(folder, access, level, start)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    reader, writer = os.pipe()
    with FileIO(reader) as readable, FileIO(writer, "w") as writable:
        yield readable, writable


def test_nothing(bench: Bench) -> None:
    assert not bench.drain()
    assert bench.lines() == []


def test_all_rings_are_read(bench: Bench) -> None:
    for slot in (0, 1):
        for number in (1, 2):
            put(bench.ring(slot), record(number, b"x.example"))
    assert bench.drain()
    assert [(line["worker"], line["connection"]) for line in bench.lines()] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert bench.lines()[0]["listener"] == "web"
    assert bench.ring().tail == bench.ring().head
    assert not bench.drain()


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
        bench.drain()
        assert ring.tail == ring.head
    assert len(bench.lines()) == 3
    assert bench.events.read_text().count("record_unreadable worker=0 count=1") == 1


@pytest.mark.parametrize("before", [1, 3, 4, 5, SIZE - 1, SIZE, SIZE + 1, SIZE + 5])
def test_around_the_end(tmp_path: Path, before: int) -> None:
    """A record that begins so many bytes before the end of the ring: its size, its head or its texts go around."""
    with opened(tmp_path, start=5 * RING - before) as bench:
        put(bench.ring(), record(1, b"around.example"))
        put(bench.ring(), record(2))
        assert bench.drain()
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
                bench.drain()
        bench.drain()
        assert [(line["connection"], len(line.get("domain_name", ""))) for line in bench.lines()] == expected
        assert len(expected) + bench.ring().dropped == len(sizes)


def test_a_full_ring_is_read_whole_and_the_loss_is_told(bench: Bench) -> None:
    written = 0
    while put(bench.ring(1), record(written, b"n" * 1000)):
        written += 1
    put(bench.ring(1), record(0, b"n" * 1000))
    assert bench.drain()
    assert len(bench.lines()) == written
    assert bench.told() == ["warning log_ring_full worker=1 dropped=2"]
    bench.ring(1).dropped += 1
    bench.drain()
    assert len(bench.told()) == 1, "once a second"
    bench.writer.told_dropped = 0.0
    bench.drain()
    assert bench.told()[1:] == ["warning log_ring_full worker=1 dropped=1"], "each loss is told once"
    bench.writer.told_dropped = 0.0
    bench.ring(1).dropped = 0
    bench.drain()
    assert len(bench.told()) == 2


def test_what_was_dropped_before_the_start_is_not_told_again(bench: Bench) -> None:
    bench.ring().dropped = 5
    LogWriter(bench.orders).drain()
    assert bench.told() == []


def test_a_slot_that_is_added_later(bench: Bench) -> None:
    """Its ring is read from then on, with what was lost before the first look; others are never touched."""
    bench.ring(2).dropped = 3
    put(bench.ring(2), record(1))
    assert not bench.drain()
    bench.segment.use(3)
    assert bench.drain()
    assert [line["worker"] for line in bench.lines()] == [2]
    assert bench.told() == ["warning log_ring_full worker=2 dropped=3"]


def test_names_change_while_it_runs(bench: Bench) -> None:
    """Those of a line are those that stood when its record was written, or newer ones."""
    put(bench.ring(), record(1))
    assert bench.drain()
    names = {**FACTS["names"], "listeners": {"0": "other"}}  # type: ignore[dict-item]
    bench.facts.publish({**FACTS, "names": names})
    put(bench.ring(), record(2))
    assert bench.drain()
    assert [line["listener"] for line in bench.lines()] == ["web", "other"]
    assert bench.lines()[1]["node"] == "n1"


def test_no_names_yet(bench: Bench) -> None:
    bench.facts.publish({})
    put(bench.ring(), record(1))
    assert bench.drain()
    assert "listener" not in bench.lines()[0]


def test_events_have_their_own_log(bench: Bench) -> None:
    put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"accept_failed n=1"))
    put(bench.ring(), record(2))
    assert bench.drain()
    assert bench.events.read_text() == "1970-01-01T00:00:00.000Z warning accept_failed n=1\n"
    assert [line["connection"] for line in bench.lines()] == [2]


def test_events_below_the_level(tmp_path: Path) -> None:
    with opened(tmp_path, level="error") as bench:
        put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"x"))
        assert bench.drain()
        assert bench.events.read_text() == ""


def test_no_access_log(tmp_path: Path) -> None:
    with opened(tmp_path, access=-1) as bench:
        put(bench.ring(), record(1))
        put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"x"))
        assert bench.drain()
        assert bench.ring().tail == bench.ring().head
        assert len(bench.told("x")) == 1


def test_a_full_disk_keeps_the_records_and_is_told_once(tmp_path: Path) -> None:
    """When there is room again, here in another file, everything is written that the rings could hold."""
    with opened(tmp_path, access="/dev/full") as bench:
        for number in range(3):
            put(bench.ring(0), record(2 * number))
            put(bench.ring(1), record(2 * number + 1))
            bench.drain()
        assert bench.told() == ['error access_log_failed error="no space left on device" lost_bytes=0']
        bench.writer.obey(replace(bench.orders, access=bench.open(bench.access)))
        assert bench.drain()
        assert sorted(line["connection"] for line in bench.lines()) == list(range(6))
        assert bench.told()[1:] == ["info access_log_recovered lost_bytes=0"]


def test_a_reader_that_goes_and_one_that_comes_back(tmp_path: Path) -> None:
    """What is lost is said; events still come through."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with opened(tmp_path, access=str(path)) as bench:
        os.close(reader)
        put(bench.ring(), record(1))
        put(bench.ring(), record(1, kind=access_log.EVENT, level=30, detail=b"x"))
        assert bench.drain()
        size = len(bench.writer._line(record(1), 0))
        assert bench.told("access_log_failed") == [f'error access_log_failed error="broken pipe" lost_bytes={size}']
        assert len(bench.told("x")) == 1
        put(bench.ring(), record(2))
        assert bench.drain()
        with open(path, "rb", buffering=0, opener=lambda *_: os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as again:
            put(bench.ring(), record(3))
            assert bench.drain()
            assert json.loads(again.read(65536))["connection"] == 3
        assert bench.told("access_log_recovered") == [f"info access_log_recovered lost_bytes={size}"]
        put(bench.ring(), record(4))
        assert bench.drain()
        assert len(bench.told("access_log_failed")) == 2, "the next failure is news again"


def test_who_does_not_read_is_not_waited_for(tmp_path: Path, pipe: tuple[FileIO, FileIO]) -> None:
    """The rings fill, and lose what is new; when somebody reads, all the rest comes, of both workers in turn."""
    with opened(tmp_path, access=pipe[1].fileno()) as bench:
        kept = []
        for number in range(4000):
            kept += [number] if put(bench.ring(number % 2), record(number, b"n" * 500)) else []
            bench.writer.drain()
        assert kept != list(range(4000))
        bench.writer.told_dropped = 0.0
        bench.drain()
        told = sum(int(line.rpartition("=")[2]) for line in bench.told("log_ring_full"))
        assert told == 4000 - len(kept)
        found = b""
        while bench.writer.drain() or bench.writer.output.waits:
            found += pipe[0].read(65536)
        os.set_blocking(pipe[0].fileno(), False)
        while more := pipe[0].read(65536):
            found += more
        lines = [json.loads(line) for line in found.splitlines()]
        assert sorted(line["connection"] for line in lines) == kept
        last = {worker: at for at, line in enumerate(lines) for worker in [line["worker"]]}
        assert abs(last[0] - last[1]) < len(lines) / 4


def test_new_orders(bench: Bench, tmp_path: Path) -> None:
    """Other files, another level and format; the old descriptors are closed, but never one of the standard ones."""
    put(bench.ring(), record(1))
    assert bench.drain()
    new = replace(
        bench.orders,
        access=bench.open(tmp_path / "access2"),
        events=bench.open(tmp_path / "events2"),
        level="warning",
        format="json",
    )
    bench.writer.obey(new)
    for old in (bench.orders.access, bench.orders.events):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(old)
    for level in (20, 30):
        put(bench.ring(), record(1, kind=access_log.EVENT, level=level, detail=b"x n=%d" % level))
    put(bench.ring(), record(2))
    assert bench.drain()
    assert [line["connection"] for line in bench.lines()] == [1]
    assert [json.loads(line)["n"] for line in (tmp_path / "events2").read_text().splitlines()] == [30]
    bench.writer.obey(replace(new, access=1, events=2))
    bench.writer.obey(replace(new, access=-1, events=bench.open(tmp_path / "events3")))
    assert os.fstat(1)
    assert os.fstat(2)
    put(bench.ring(), record(3))
    assert bench.drain()
    assert bench.ring().tail == bench.ring().head


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
    assert bench.drain()
    assert len(bench.lines()) == 900
    assert len(sizes) > 2
    assert max(sizes) < 300_000


def test_orders() -> None:
    orders = Orders(3, 4, 5, 6, -1, 2, "info", "text")
    assert [getattr(orders, name) for name in Orders.DESCRIPTORS] == [3, 4, 5, 6, -1, 2]
    assert Orders(**json.loads(orders.command()[-1])) == orders
    assert orders.command()[1:4] == ["-P", "-m", "nlbcore.process.logwriter"]


class Running:
    """The log writer as a process, with a supervisor's end of its control socket."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.orders = replace(bench.orders, eventfd=self.eventfd, control=theirs.fileno())
            fds = {fd for name in Orders.DESCRIPTORS if (fd := getattr(self.orders, name)) >= 0}
            self.process = subprocess.Popen(self.orders.command(), pass_fds=fds, stderr=subprocess.PIPE)
        self.control.settimeout(20)
        assert hear(self.control) == ({"say": "ready"}, [])

    def renew(self, **changes: Any) -> None:
        """As `Attendant.renew()`: all descriptors beside the new orders."""
        orders = replace(self.orders, control=-1, **changes)
        fds = [fd for name in Orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0]
        places = {name: fds.index(fd) for name in Orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0}
        assert say(self.control, {"orders": {**vars(orders), **places}}, fds)

    def heart(self) -> int:
        return int(self.bench.segment.shared.hearts[HEARTS.index("log_writer")])

    def beats(self) -> None:
        for _ in range(3):
            before = self.heart()
            wait_until(lambda before=before: self.heart() > before, "its heart beats", 0.6)  # type: ignore[misc]

    def finish(self, seconds: float) -> None:
        self.control.close()
        assert self.process.wait(seconds) == 0
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.control.close()
        os.close(self.eventfd)


def test_as_a_process(bench: Bench) -> None:
    """It writes when it is woken, ignores the signals of a terminal, and ends with its control socket after a last look."""
    with Running(bench) as running:
        running.beats()
        running.process.send_signal(2)
        running.process.send_signal(15)
        put(bench.ring(), record(1))
        os.eventfd_write(running.eventfd, 1)
        wait_until(lambda: bench.lines(), "the line is written")
        put(bench.ring(1), record(2))
        running.finish(20)
    assert [line["connection"] for line in bench.lines()] == [1, 2]
    assert bench.ring().asleep == 0


def test_workers_are_told_whether_there_is_an_access_log(bench: Bench) -> None:
    """Also one that comes later."""
    assert [bench.ring(slot).muted for slot in range(2)] == [0, 0]
    bench.writer.obey(replace(bench.orders, access=-1))
    assert [bench.ring(slot).muted for slot in range(2)] == [1, 1]
    bench.segment.use(3)
    bench.drain()
    assert bench.ring(2).muted == 1
    bench.writer.obey(replace(bench.orders, access=bench.open(bench.access)))
    assert [bench.ring(slot).muted for slot in range(3)] == [0, 0, 0]


def test_nobody_has_to_wake_it_while_records_keep_coming(bench: Bench) -> None:
    """It sleeps only when a while has passed without any."""
    with Running(bench) as running:
        running.beats()
        wait_until(lambda: bench.ring().asleep, "it sleeps")
        put(bench.ring(), record(1))
        bench.ring().asleep = 0  # as a worker does
        os.eventfd_write(running.eventfd, 1)
        wait_until(lambda: bench.lines(), "the line is written")
        for number in range(2, 20):
            put(bench.ring(), record(number))  # and no wake-up
            if bench.ring().asleep:
                bench.ring().asleep = 0
                os.eventfd_write(running.eventfd, 1)
        wait_until(lambda: len(bench.lines()) == 19, "all lines are written")
        wait_until(lambda: bench.ring().asleep, "it sleeps again")
        running.finish(20)


def test_new_orders_as_a_process(bench: Bench, tmp_path: Path) -> None:
    """As after a rotation, again and again: no descriptor is left behind, and no record lost."""
    with Running(bench) as running:
        process = psutil.Process(running.process.pid)
        before = process.num_fds()
        paths = [tmp_path / f"access{number}" for number in range(3)]
        for number, path in enumerate(paths):
            running.renew(access=bench.open(path))
            wait_until(lambda path=path: str(path) in _open_files(process), "the new file is open")  # type: ignore[misc]
            put(bench.ring(), record(number))
            wait_until(lambda path=path: path.read_text(), "the line is written")  # type: ignore[misc]
            assert process.num_fds() == before
        running.finish(20)
    assert [json.loads(path.read_text())["connection"] for path in paths] == [0, 1, 2]


def _open_files(process: psutil.Process) -> list[str]:
    return [file.path for file in process.open_files()]


def test_who_does_not_read_stops_neither_its_heart_nor_new_orders_nor_the_end(
    tmp_path: Path, pipe: tuple[FileIO, FileIO]
) -> None:
    with opened(tmp_path, access=pipe[1].fileno()) as bench:
        with Running(bench) as running:
            while put(bench.ring(), record(1, b"n" * 900)):
                pass
            wait_until(lambda: bench.ring().tail > 0, "it has begun")
            running.beats()
            assert bench.ring().tail < bench.ring().head, "it is stuck"
            assert psutil.Process(running.process.pid).cpu_percent(0.3) < 30
            running.renew(access=bench.open(bench.access))
            wait_until(lambda: bench.ring().tail == bench.ring().head, "it writes elsewhere")
            running.renew(access=pipe[1].fileno())
            process = psutil.Process(running.process.pid)
            wait_until(lambda: str(bench.access) not in _open_files(process), "it has the pipe again")
            while put(bench.ring(), record(2, b"n" * 900)):
                pass
            running.finish(10)
        assert bench.ring().tail == bench.ring().head
        assert bench.lines()
        failed = bench.told("access_log_failed")
        assert len(failed) == 1
        assert int(failed[0].rpartition("=")[2]) > RING // 2
