"""More addresses than one worker can watch for two: when a worker dies its sibling does what it can, and goes on."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING

from tests.support.balancer import Balancer, alive, plain_listener, server_group
from tests.support.ports import free_port
from tests.support.waiting import stays
from tests.support.workers import by_slot, end

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend

ADDRESSES = 2100
"""A worker has room for 4,096: enough for its own sockets, too little for those of two."""


def test_the_sibling_lives(run: Callable[..., Balancer], backend: Backend) -> None:
    """The other worker is the same one until the dead one is replaced, and after."""
    port = free_port()
    hosts = itertools.islice((f"127.2.{a}.{b}" for a in range(250) for b in range(1, 250)), ADDRESSES)
    balancer = run(
        {
            "node": {"workers": 2},
            "listeners": {"plain": plain_listener(bind=[f"{host}:{port}" for host in hosts])},
            "server_groups": {"app": server_group(backend)},
        }
    )
    balancer.expected_stderr = lambda text: "Traceback" not in text
    workers = by_slot(balancer)
    end(workers[0], signal.SIGKILL)
    balancer.wait_event("worker_started", worker=0)
    stays(lambda: alive(workers[1]), f"the sibling\n{balancer.describe()[:2000]}", 0.3)
    assert len(balancer.find_events("worker_died")) == 1
