"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str | Callable[[], str], timeout: float = 30.0) -> T:
    """Poll `condition` until it is true and return its value; after `timeout` seconds fail, saying `what` was awaited."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def stays(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Check that `condition` holds all the time for `seconds`: for what must not happen, where only time can show it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"did not last {seconds:g} s: {what}")
        time.sleep(0.02)


def wait_still(value: Callable[[], T], what: str, quiet: float = 0.5, timeout: float = 15.0) -> T:
    """Wait until `value` has not changed for `quiet` seconds, and return it."""
    deadline = time.monotonic() + timeout
    last, since = value(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come to rest within {timeout:g} s: {what}")
        time.sleep(0.02)
        if (current := value()) != last:
            last, since = current, time.monotonic()
    return last
