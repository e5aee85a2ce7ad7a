"""A worker that dies again and again is started with growing delays; nobody is refused meanwhile, not even by a single worker."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.support.workers import PlainClient, Visitors, by_slot, end, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer


def delay(event: dict[str, str]) -> float:
    """Seconds until the restart."""
    return float(event["restart_in"].removesuffix("s"))


def test_delays_grow(
    run: Callable[..., Balancer], tables: Callable[..., dict[str, Any]], context: ssl.SSLContext
) -> None:
    """Killed four times as soon as it is there: each delay is longer than the last and kept, and the sibling serves everybody."""
    balancer = run(tables())
    with Visitors(partial(tls_client, balancer.port(), context)) as visitors:
        for _ in range(4):
            mark = len(balancer.events())
            moment = end(by_slot(balancer)[0], signal.SIGKILL)
            died = balancer.wait_event("worker_died", since=mark, worker=0)
            if delay(died) >= 0.4:
                wait = balancer.status()["workers"][0]
                assert (wait["state"], wait["pid"]) == ("down", 0)
                visitors.wait_since(moment)
            balancer.wait_event("worker_started", since=mark, worker=0)
            visitors.all_served(moment, 1.9)  # a second, and something for a busy machine; the longest restart takes 2
    deaths = balancer.find_events("worker_died")
    delays = [delay(event) for event in deaths]
    assert len(delays) == 4
    assert all(earlier < later for earlier, later in pairwise(delays)), delays
    assert {event["worker"] for event in deaths} == {"0"}
    assert [worker["restarts"] for worker in balancer.status()["workers"]] == [4, 0]


def test_queue_of_a_single_worker(run: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> None:
    """Those who come while the only worker is down are not refused: they wait, and the next one serves them all."""
    balancer = run(tables(workers=1))
    for _ in range(2):  # the second delay is long enough to look at
        mark = len(balancer.events())
        end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_died", since=mark)
        with ExitStack() as stack:
            clients = [PlainClient(balancer.port("plain")) for _ in range(20)]
            for number, client in enumerate(clients):
                stack.callback(client.close)
                client.sock.sendall(b"%d" % number)
            assert not balancer.find_events("worker_started", since=mark), "they came too late"
            for number, client in enumerate(clients):
                assert client.sock.recv(10) == b"%d" % number
        balancer.wait_event("worker_started", since=mark)
