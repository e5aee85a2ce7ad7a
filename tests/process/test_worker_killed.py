"""A worker dies of SIGKILL, SIGSEGV or SIGABRT under load: only its own connections end, nobody else notices.

Clients hold connections open at both workers and keep talking, others keep coming. Each worker in turn is ended. Those of the
dead one see a bare end (never close_notify), those of its sibling go on byte for byte, and whoever comes after the death is
served within a second, because the sibling accepts for the slot until it has a worker again. Then the books are compared with
the truth: gauges, totals, restarts, process ids, the event log.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer
from tests.support.tls_client import EOF, RESET
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Talkers, Visitors, by_slot, end, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.workers import Client

SERVED_WITHIN = 2.0
"""Seconds; one is meant, the other is for a busy machine."""
EACH = 3


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> Balancer:
    """Two workers."""
    balancer = balancer_for(tables())
    balancer.restarts_expected = True
    return balancer


def listener(balancer: Balancer, name: str) -> dict[str, Any]:
    """What the status says of a listener."""
    (found,) = (one for one in balancer.status()["listeners"] if one["name"] == name)
    return found  # type: ignore[no-any-return]


def live(balancer: Balancer, name: str) -> tuple[int, int, dict[int, int]]:
    """The gauges: connections of the listener, of the only server, and of each worker."""
    status = balancer.status()
    (server,) = status["server_groups"][0]["servers"]
    workers = {worker["slot"]: worker["connections"] for worker in status["workers"]}
    return listener(balancer, name)["connections"], server["connections"], workers


def lose_one(balancer: Balancer, name: str, connect: Callable[[], Client], slot: int, number: signal.Signals) -> None:
    """End the worker of a slot under load, and check everything."""
    mark = len(balancer.events())
    before = listener(balancer, name)["connections_total"]
    restarts = balancer.status()["workers"][slot]["restarts"]
    with ExitStack() as stack:
        held = spread(stack, connect, balancer, EACH)
        victims, survivors = held[slot], held[1 - slot]
        victim = by_slot(balancer)[slot]
        with Visitors(connect) as visitors, Talkers(survivors) as talkers:
            visitors.wait_since(0)
            moment = end(victim, number)
            for client in victims:
                assert client.read_to_end(SERVED_WITHIN) in ((b"", EOF), (b"", RESET))
            talkers.wait_rounds()
            started = balancer.wait_event("worker_started", since=mark, worker=slot)
            visitors.wait_since(moment, 30)
            talkers.wait_rounds()
        assert not talkers.error
        visitors.all_served(moment, SERVED_WITHIN)
        lost = [visit for visit in visitors.visits if visit.error]
        assert len(lost) <= 2, f"more than one for each thread of visitors: {lost}"
        gauges = (len(survivors), len(survivors), {slot: 0, 1 - slot: len(survivors)})
        wait_until(lambda: live(balancer, name) == gauges, lambda: f"gauges {live(balancer, name)} are {gauges}", 3)
    opened = sum(map(len, held.values())) + len(visitors.visits)
    total = listener(balancer, name)["connections_total"] - before
    assert opened - len(lost) <= total <= opened, f"{opened} were opened, {len(lost)} lost, {total} counted"
    wait_until(lambda: live(balancer, name) == (0, 0, {0: 0, 1: 0}), "all have left", 3)
    (died,) = balancer.find_events("worker_died", since=mark)
    assert (died["worker"], died["pid"], died["reason"]) == (str(slot), str(victim.pid), number.name)
    worker = balancer.status()["workers"][slot]
    assert worker["restarts"] == restarts + 1
    assert worker["state"] == "running"
    assert str(worker["pid"]) == started["pid"]
    assert worker["pid"] != victim.pid


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda one: one.name)
def test_tls(balancer: Balancer, context: ssl.SSLContext, slot: int, number: signal.Signals) -> None:
    """Client certificates required: every new handshake goes well, too."""
    lose_one(balancer, "web", partial(tls_client, balancer.port(), context), slot, number)


def test_plain(run: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> None:
    """The same without TLS."""
    balancer = run(tables())
    for slot in (0, 1):
        lose_one(balancer, "plain", partial(PlainClient, balancer.port("plain")), slot, signal.SIGKILL)


def test_connections_have_numbers_of_their_own(balancer: Balancer) -> None:
    """A new worker goes on counting where the dead one stopped: no number in the access log is there twice."""
    numbers = [line["connection"] for line in balancer.access.lines()]
    assert len(numbers) > 100
    assert len(set(numbers)) == len(numbers)
