"""Two workers accept evenly: of 2,000 connections each has between 40 and 60 %."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTIONS = 2000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Enough for as many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_workers(run: Callable[..., Balancer]) -> None:
    """All are open at once; status counts them for each worker, and for none when they have left."""
    with ExitStack() as stack:
        # A server that never accepts: the kernel completes its connections and keeps them in the queue.
        queue = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        balancer = run(
            {
                "node": {"workers": 2},
                "listeners": {"plain": plain_listener()},
                "server_groups": {"app": server_group({"address": f"127.0.0.1:{queue.getsockname()[1]}"})},
            }
        )
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(balancer.port("plain")))
        wait_until(lambda: balancer.status()["connections"] == CONNECTIONS, "all connections are counted")
        status = balancer.status()
    shares = [worker["connections"] / CONNECTIONS for worker in status["workers"]]
    assert sum(shares) == 1
    assert all(0.4 < share < 0.6 for share in shares), shares
    assert status["server_groups"][0]["servers"][0]["connections"] == CONNECTIONS
    wait_until(lambda: balancer.status()["connections"] == 0, "all have left")
    assert balancer.status()["listeners"][0]["connections_total"] == CONNECTIONS
