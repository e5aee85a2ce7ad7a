"""The limits of a listener are those of the balancer, however many workers share it: `max_connections` and `cps`."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, by_slot, end, slot_of, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend

MOST = 10
CPS = 20


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend) -> Balancer:
    """Two workers, a listener for each limit."""
    balancer = balancer_for(
        {
            "node": {"workers": 2},
            "listeners": {"most": plain_listener(max_connections=MOST), "cps": plain_listener(cps=CPS)},
            "server_groups": {"app": server_group(backend)},
        }
    )
    balancer.restarts_expected = True
    return balancer


def let_in(stack: ExitStack, port: int, tries: int) -> list[PlainClient]:
    """Those of so many clients, one after the other, that get through; they stay."""
    served = []
    for _ in range(tries):
        try:
            client = PlainClient(port)
        except ConnectionError:
            continue
        stack.callback(client.close)
        try:
            client.ping()
        except (AssertionError, ConnectionError):
            continue
        served.append(client)
    return served


def live(balancer: Balancer) -> dict[str, Any]:
    """Connections of each listener."""
    return {one["name"]: one["connections"] for one in balancer.status()["listeners"]}


def test_max_connections(balancer: Balancer) -> None:
    """Exactly 10 of 40 get in; there is room again for as many as leave, and for as many as a killed worker had."""
    port = balancer.port("most")
    with ExitStack() as stack:
        inside = let_in(stack, port, 4 * MOST)
        assert len(inside) == MOST
        for client in inside[:3]:
            client.close()
        wait_until(lambda: live(balancer)["most"] == MOST - 3, "three have left")
        inside = inside[3:] + let_in(stack, port, 2 * MOST)
        assert len(inside) == MOST
        victims = [client for client in inside if slot_of(balancer, client) == 0]
        end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_started", worker=0)
        assert live(balancer)["most"] == MOST - len(victims)
        assert len(let_in(stack, port, 4 * MOST)) == len(victims)
    wait_until(lambda: live(balancer)["most"] == 0, "all have left")


def test_max_connections_at_once(balancer: Balancer) -> None:
    """However many come in the same moment, never more than 10 are in; and then it is exactly 10 again."""
    port = balancer.port("most")
    for _ in range(5):
        with ExitStack() as stack:
            clients = []
            for _ in range(6 * MOST):
                try:
                    clients.append(PlainClient(port))
                except ConnectionError:
                    continue
                stack.callback(clients[-1].close)
            inside = 0
            for client in clients:
                try:
                    client.ping()
                    inside += 1
                except (AssertionError, ConnectionError):
                    client.close()
            assert 1 <= inside <= MOST
            more = let_in(stack, port, 2 * MOST)
            assert inside + len(more) == MOST
            assert live(balancer)["most"] == MOST
        wait_until(lambda: live(balancer)["most"] == 0, "all have left")


def test_cps(balancer: Balancer) -> None:
    """No more than a second's worth at once and the rate after that; counted for each worker alone it would be twice as many."""
    port = balancer.port("cps")
    with ExitStack() as stack:
        start = time.monotonic()
        served = let_in(stack, port, 100)
        elapsed = time.monotonic() - start
        assert CPS <= len(served) <= CPS * (1 + elapsed) + 1, f"{len(served)} in {elapsed:.2f} s"
        assert {slot_of(balancer, client) for client in served} == {0, 1}


def test_unlimited_beside(balancer: Balancer) -> None:
    """When the second is over, connections are taken again, at both workers."""
    time.sleep(0.5)  # time is the behaviour
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("cps")), balancer, 1)
        assert all(held.values())
