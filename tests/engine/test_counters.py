"""Counting goes into the block that a worker is given, and not into one that is too small."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from nlbcore.engine import counters
from nlbcore.segment import BLOCK, BUCKETS, Block, Histogram, Segment
from tests.engine import running
from tests.engine.running import Running


def test_a_block_that_is_too_small() -> None:
    with pytest.raises(ValueError, match=f"a worker's block needs {ctypes.sizeof(Block)} bytes, not 4096"):
        counters.use(0, 4096)


def test_use(door: Any) -> None:
    segment = Segment.create(1)
    before = door.block_address()
    block = segment.block(0)
    try:
        counters.use(ctypes.addressof(block), ctypes.sizeof(block))
        assert door.block_address() == ctypes.addressof(block)
        door.write_event(30, b"x")
        assert block.ring.head > 0
    finally:
        counters.use(before, ctypes.sizeof(Block))
        os.close(segment.fd)


@pytest.mark.parametrize(
    ("live", "word"),
    [
        ((0, 0, 0), None),
        ((2, 2, 1), None),
        ((2, 2, 2), "connection_limit"),
        ((6, 0, 0), "connection_limit"),
        ((0, 0, 6), "connection_limit"),
    ],
)
def test_share(start: Callable[..., Running], server: socket.socket, live: tuple[int, ...], word: str | None) -> None:
    """`max_connections` counts the connections of all workers with this listener, and of no other one."""
    engine = start(max_connections=5)
    segment = Segment.create(len(live))
    for slot, count in enumerate(live):
        segment.block(slot).listeners[0].live = count
        segment.block(slot).listeners[1].live = 100
    try:
        segment.use(len(live))
        counters.share(ctypes.addressof(segment.shared), ctypes.addressof(segment.block(0)), BLOCK, segment.slots)
        engine.connect()
        if word is None:
            engine.turn(lambda: running.BLOCK.servers[0].live == 1)
            server.accept()[0].close()
        else:
            assert engine.words() == [word]
    finally:
        running.alone()
        os.close(segment.fd)


def test_the_only_worker_looks_at_itself(start: Callable[..., Running], server: socket.socket) -> None:
    """`use()` forgets the blocks of `share()`."""
    engine = start(max_connections=1)
    others = (Block * 2)()
    others[1].listeners[0].live = 100
    counters.share(ctypes.addressof(running.SHARED), ctypes.addressof(others), ctypes.sizeof(Block), 2)
    counters.use(ctypes.addressof(running.BLOCK), ctypes.sizeof(Block))
    engine.connect()
    engine.turn(lambda: running.BLOCK.servers[0].live == 1)
    server.accept()[0].close()
    engine.connect()
    assert engine.words() == ["connection_limit"]


def spent(histogram: Histogram) -> tuple[list[float], int]:
    """How often within which buckets (by their upper bounds in seconds), and microseconds in all."""
    bounds = [*BUCKETS, float("inf")]
    found = [bound for bound, count in zip(bounds, histogram.buckets, strict=True) for _ in range(count)]
    return found, int(histogram.sum_us)


def test_histograms(start: Callable[..., Running], server: socket.socket) -> None:
    """Each connection once: how long its server took to be connected to, and it took itself."""
    engine = start(row=7, group_row=9)
    listener, group = running.BLOCK.listeners[7], running.BLOCK.groups[9]
    for histogram in (listener.connection_time, listener.handshake_time, group.connect_time):
        ctypes.memset(ctypes.addressof(histogram), 0, ctypes.sizeof(histogram))
    client = engine.connect()
    engine.turn(lambda: running.BLOCK.servers[0].live)
    buckets, us = spent(group.connect_time)
    assert len(buckets) == 1
    assert 0 < us <= buckets[0] * 1_000_000 < 5_000_000
    engine.engine.run(0.06)
    client.close()
    server.accept()[0].close()
    (ended,) = engine.ended()
    buckets, us = spent(listener.connection_time)
    assert len(buckets) == 1
    assert abs(us - ended.connection_us) < 10_000
    assert 60_000 <= us <= buckets[0] * 1_000_000
    assert buckets[0] >= 0.1
    assert spent(listener.handshake_time) == ([], 0), "without TLS there is none"
