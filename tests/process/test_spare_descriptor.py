"""Out of descriptors, a worker still tells its clients: it accepts and closes with a spare one. Nobody hangs in the queue."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer
from tests.support.programs import need
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, by_slot, end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 41
SERVED = 20
"""At least: what two workers have room for."""
TURNED_AWAY = 6
"""In a row: then both are full."""


@pytest.mark.parametrize(
    ("limit", "adopted"),
    [(LIMIT, False), (LIMIT, True), (LIMIT + 1, True)],  # a connection takes two: with one of these the last is odd
    ids=["as_started", "after_an_adoption", "after_an_adoption_odd"],
)
def test_nobody_hangs(tmp_path: Path, tables: Callable[..., dict[str, Any]], limit: int, *, adopted: bool) -> None:
    """Clients come until several in a row are turned away: each is served or closed at once. So too by a worker that has accepted for a
    dead sibling and has stopped doing so.
    """
    balancer = Balancer(tmp_path, tables(), prefix=(need("prlimit"), f"--nofile={limit}"))
    balancer.restarts_expected = True
    with balancer, ExitStack() as stack:
        if adopted:
            for slot in (0, 1):
                mark = len(balancer.events())
                end(by_slot(balancer)[slot], signal.SIGKILL)
                balancer.wait_event("worker_started", since=mark, worker=slot)
        served = away = 0
        while away < TURNED_AWAY:
            assert served < limit, "they all find room: the test shows nothing"
            client = PlainClient(balancer.port("plain"))
            stack.callback(client.close)
            try:
                client.ping(timeout=2.0)
            except (AssertionError, ConnectionError):
                away += 1
            except TimeoutError:
                raise AssertionError(
                    f"one hangs in the queue, after {served} were served and {away} turned away"
                ) from None
            else:
                served, away = served + 1, 0
        assert served > SERVED
        balancer.wait_event("accept_failed", error="too many open files")
        stack.close()
        wait_until(lambda: balancer.status()["connections"] == 0, "all have left")
        PlainClient(balancer.port("plain")).close()
