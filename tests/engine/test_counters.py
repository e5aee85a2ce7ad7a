"""Counting goes into the block that a worker is given, and not into one that is too small."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from nlbcore.engine import counters
from nlbcore.segment import Block, Segment


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
