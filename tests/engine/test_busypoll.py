"""Before sleeping the engine looks for the next message for a moment, if the last ones came soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

MOST = 8
"""So likely an event can seem."""
HOPEFUL = 4
"""From here on it is polled for."""
POLL = 0.000050
ONE = (1, 128)
"""A round of one message: its events and bytes."""


@pytest.fixture
def poller(door: Any) -> Iterator[Any]:
    made = door.Poller()
    made.busy_poll(True)
    while made.poll(1, *ONE)[1]:
        pass
    yield made
    made.busy_poll(False)
    made.close()


@pytest.fixture
def something(poller: Any) -> Iterator[int]:
    """A socket from which an event comes at once, again and again."""
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        poller.add(here.fileno(), 1, 1, edge=False)
        yield here.fileno()


def hopeful(poller: Any) -> None:
    """Waits that are over at once; one is not, where the machine is busy."""
    deadline = time.monotonic() + 5
    while (found := poller.poll(1000, *ONE))[1] < MOST:
        assert found[0] == 1
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("something")
def test_short_waits_raise_the_hope(poller: Any) -> None:
    hopeful(poller)
    for _ in range(100):
        assert poller.poll(1000, *ONE)[1] <= MOST


def test_long_waits_end_it_twice_as_fast(poller: Any, something: int) -> None:
    hopeful(poller)
    poller.remove(something)
    assert [poller.poll(1, *ONE) for _ in range(5)] == [(0, 6), (0, 4), (0, 2), (0, 0), (0, 0)]


def test_polling_takes_a_moment_and_no_more(poller: Any, something: int) -> None:
    """In CPU time of this thread: a sleep takes none."""
    hopeful(poller)
    poller.remove(something)
    begin = time.thread_time()
    assert poller.poll(20, *ONE) == (0, MOST - 2)
    assert time.thread_time() - begin < 0.01, "it has slept"


@pytest.mark.usefixtures("something")
@pytest.mark.parametrize("round_before", [(1, 0), (1, 16384), (3, 128), (256, 1 << 20)], ids=str)
def test_not_after_other_rounds(poller: Any, round_before: tuple[int, int]) -> None:
    """None, many or large messages: neither polled for nor counted."""
    assert [poller.poll(1000, *round_before) for _ in range(HOPEFUL)] == [(1, 0)] * HOPEFUL


@pytest.mark.usefixtures("something")
def test_not_without_waiting(poller: Any) -> None:
    assert [poller.poll(0, *ONE) for _ in range(HOPEFUL)] == [(1, 0)] * HOPEFUL


@pytest.mark.usefixtures("something")
def test_off(poller: Any) -> None:
    poller.busy_poll(False)
    assert [poller.poll(1000, *ONE) for _ in range(HOPEFUL)] == [(1, 0)] * HOPEFUL
