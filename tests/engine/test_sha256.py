"""SHA-256 as hashlib has it, at every length around the ends of its blocks."""

from __future__ import annotations

import hashlib
from typing import Any


def test_like_hashlib(door: Any) -> None:
    data = bytes(range(256)) * 20
    for size in (*range(200), 511, 512, 513, 5000):
        assert door.sha256(data[:size]) == hashlib.sha256(data[:size]).digest(), size
