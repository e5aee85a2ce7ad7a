"""A Buf keeps what could not be sent, and its cursors stay in order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(min_size=1, max_size=70_000))
def test_through(door: Any, data: bytes) -> None:
    assert door.keep_bytes(data) == data
