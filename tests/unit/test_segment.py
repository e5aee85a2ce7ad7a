"""The segment: the same layout for Python and for C, and nothing that is not a segment is taken for one."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore import segment
from nlbcore.engine import counters
from nlbcore.segment import (
    BLOCK,
    HEADER,
    SHARED,
    Block,
    GroupCounters,
    ListenerCounters,
    Order,
    Ring,
    Segment,
    ServerCounters,
    Shared,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def create() -> Iterator[Callable[[int], Segment]]:
    made: list[int] = []

    def make(slots: int) -> Segment:
        one = Segment.create(slots)
        made.append(one.fd)
        return one

    yield make
    for fd in made:
        os.close(fd)


def offset(name: str) -> int:
    structure, _, field = name.partition(".")
    kind: Any = getattr(segment, structure)
    return getattr(kind, field).offset if field else ctypes.sizeof(kind)


def test_the_layout_is_that_of_the_c_structures() -> None:
    assert {name: offset(name) for name in counters.layout()} == counters.layout()


def test_every_structure_is_compared() -> None:
    assert {name.partition(".")[0] for name in counters.layout()} == {
        "Block",
        "GroupCounters",
        "Holder",
        "ListenerCounters",
        "Order",
        "ServerCounters",
        "Ring",
        "Shared",
        "Verdict",
    }


def test_blocks_begin_on_pages_and_have_room() -> None:
    assert [size % mmap.PAGESIZE for size in (HEADER, SHARED, BLOCK)] == [0] * 3
    assert ctypes.sizeof(Block) <= BLOCK
    assert ctypes.sizeof(Shared) <= SHARED


def test_a_new_segment_is_zero_and_shared(create: Callable[[int], Segment]) -> None:
    one = create(2)
    other = Segment(one.fd)
    assert other.slots == 2
    assert not os.get_inheritable(one.fd)
    assert os.fstat(one.fd).st_size == HEADER + SHARED + 2 * BLOCK
    assert os.fstat(one.fd).st_blocks * 512 < 64 * 1024, "untouched pages cost nothing"
    one.block(0).listeners[255].live = -3
    one.block(1).servers[8191].connections = 2**64 - 1
    one.block(1).ring.data[segment.RING - 1] = 255
    assert other.block(0).listeners[255].live == -3
    assert other.block(1).servers[8191].connections == 2**64 - 1
    assert other.block(1).ring.data[segment.RING - 1] == 255
    assert other.block(0).servers[8191].connections == other.block(1).listeners[255].live == 0


def test_what_all_share_stands_before_the_first_block(create: Callable[[int], Segment]) -> None:
    one = create(1)
    one.block(0).heartbeat = 2**64 - 1
    assert bytes(one.shared) == bytes(ctypes.sizeof(Shared))
    other = Segment(one.fd)
    one.shared.cps_due[segment.LISTENERS - 1] = 7
    one.shared.listener_cut_ms[segment.LISTENERS - 1] = 8
    one.shared.hearts[len(segment.HEARTS) - 1] = 9
    one.verdicts[segment.SERVERS - 1] = Verdict(segment.DRAINING, 3, 1, since_ms=2**64 - 1)
    one.shared.orders[segment.SERVERS - 1] = Order(segment.MAINT, 101, cut_ms=2**64 - 1)
    assert other.shared.cps_due[segment.LISTENERS - 1] == 7
    assert other.shared.listener_cut_ms[segment.LISTENERS - 1] == 8
    assert list(other.shared.hearts) == [0, 0, 0, 9]
    verdict, order = other.verdicts[segment.SERVERS - 1], other.shared.orders[segment.SERVERS - 1]
    assert (verdict.state, verdict.reason, verdict.waits, verdict.since_ms) == (segment.DRAINING, 3, 1, 2**64 - 1)
    assert (order.state, order.weight_and_one, order.cut_ms) == (segment.MAINT, 101, 2**64 - 1)
    assert other.block(0).heartbeat == 2**64 - 1


def test_slots_in_use(create: Callable[[int], Segment]) -> None:
    """They never become fewer, and a damaged number leads nobody out of the segment."""
    one = create(3)
    found = []
    for slots in (0, 2, 1, 3, 9):
        one.use(slots)
        found.append(Segment(one.fd).used)
    assert found == [0, 2, 2, 3, 3]
    one.shared.slots = 2**32 - 1
    assert Segment(one.fd).used == 3


def test_as_many_slots_as_a_balancer_can_have_cost_nothing(create: Callable[[int], Segment]) -> None:
    one = create(segment.SLOTS)
    one.block(segment.SLOTS - 1).heartbeat = 1
    assert os.fstat(one.fd).st_blocks * 512 < 64 * 1024


def test_states_by_number() -> None:
    """The words of `STATES` and the constants are one list; a new segment says Initial of everybody."""
    numbered = [getattr(segment, word.upper()) for word in segment.STATES]
    assert numbered == list(range(len(segment.STATES))) == list(range(5))
    assert [getattr(segment, word.upper()) for word in segment.ORDERS] == [0, 1, 2]
    assert segment.INITIAL == segment.READY == 0
    assert segment.REASONS[0] == ""
    assert len(set(segment.REASONS)) == len(segment.REASONS) <= 256


def test_repair(create: Callable[[int], Segment]) -> None:
    """The connections of a worker that is gone are no more; what it has counted stays, and so do those of its siblings."""
    one = create(2)
    for slot in (0, 1):
        block = one.block(slot)
        for rows in (block.listeners, block.servers):
            for row in (0, 1, 2):
                rows[row].live, rows[row].connections = 5, 9
        block.listeners[0].expiring[:] = [1, 2, 3, 4]
        block.holders[7].key, block.holders[7].count, block.held = 1, 2, 1
    one.repair(1, iter((0, 2)), {"a": 1}.values())
    assert [[one.block(slot).listeners[row].live for row in range(3)] for slot in (0, 1)] == [[5, 5, 5], [0, 5, 0]]
    assert [[one.block(slot).servers[row].live for row in range(3)] for slot in (0, 1)] == [[5, 5, 5], [5, 0, 5]]
    assert [list(one.block(slot).listeners[0].expiring) for slot in (0, 1)] == [[1, 2, 3, 4], [0, 0, 0, 0]]
    assert [(one.block(slot).holders[7].count, one.block(slot).held) for slot in (0, 1)] == [(2, 1), (0, 0)]
    assert one.block(1).listeners[0].connections == one.block(1).servers[1].connections == 9


def test_buckets_of_a_histogram() -> None:
    assert list(segment.BUCKETS) == sorted(set(segment.BUCKETS))
    assert len(segment.Histogram().buckets) == len(segment.BUCKETS) + 1


def test_a_slot_that_is_not_there(create: Callable[[int], Segment]) -> None:
    with pytest.raises(ValueError, match=r"[Bb]uffer"):
        create(1).block(1)


@pytest.mark.parametrize(
    "head",
    [
        b"\0" * 16,
        struct.pack("=8sII", b"nlbsegm\0", segment.VERSION, 1),
        struct.pack("=8sII", segment.MAGIC, segment.VERSION - 1, 1),
    ],
    ids=["zero", "magic", "version"],
)
def test_what_is_no_segment_is_refused(head: bytes) -> None:
    fd = os.memfd_create("other")
    try:
        os.write(fd, head.ljust(HEADER, b"\0"))
        with pytest.raises(ValueError, match=f"not a segment of layout version {segment.VERSION}"):
            Segment(fd)
    finally:
        os.close(fd)


def test_what_is_too_small_is_refused() -> None:
    for size in (0, 8):
        fd = os.memfd_create("small")
        try:
            os.ftruncate(fd, size)
            with pytest.raises(ValueError):
                Segment(fd)
        finally:
            os.close(fd)


def test_a_row_for_everything() -> None:
    kinds = {field[0]: field[1] for field in Block._fields_}
    assert kinds["listeners"] == ListenerCounters * segment.LISTENERS
    assert kinds["groups"] == GroupCounters * segment.GROUPS
    assert kinds["servers"] == ServerCounters * segment.SERVERS
    assert len(Ring().data) == segment.RING


def test_its_size_is_sealed(create: Callable[[int], Segment]) -> None:
    """Who has it mapped is not killed by SIGBUS because another process shrinks it."""
    one = create(1)
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(one.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(one.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
