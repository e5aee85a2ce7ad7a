"""SIGKILL of the supervisor under load: everything else ends by itself, ports are free, and the same configuration starts again."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.balancer import Balancer, alive, nlb
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Visitors, by_slot, refused, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

GONE_WITHIN = 3.0


def test_under_load(tmp_path: Path, tables: Callable[..., dict[str, Any]], context: ssl.SSLContext) -> None:
    """Workers, log writer and prober are gone within 3 s, though clients are talking to them; a new start works at once."""
    balancer = Balancer(tmp_path, tables()).start()
    family = balancer.processes()
    assert len(family) == 5
    try:
        with ExitStack() as stack:
            held = spread(stack, partial(tls_client, balancer.port(), context), balancer, 2)
            with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
                visitors.wait_since(0)
                balancer.signal(signal.SIGKILL)
                moment = time.monotonic()
                wait_until(
                    lambda: not any(map(alive, family)), lambda: f"all end: {list(filter(alive, family))}", GONE_WITHIN
                )
            visitors.wait_since(moment, 1)
            for client in (*held[0], *held[1]):
                client.read_to_end()  # whatever they are told, it is over
        assert refused(balancer.port())
        assert refused(balancer.port("plain"))
        assert balancer.control_socket.exists()
        assert nlb("status", "--socket", balancer.control_socket).returncode == 69
    finally:
        balancer.kill()
    with balancer:
        assert balancer.status()["pid"] == balancer.pid
        client = tls_client(balancer.port(), context)
        client.ping()
        client.close()
    assert not balancer.control_socket.exists()


def test_workers_that_are_stopped(tmp_path: Path, tables: Callable[..., dict[str, Any]]) -> None:
    """A stopped worker cannot read that the supervisor has gone; once it goes on, it ends as well."""
    balancer = Balancer(tmp_path, tables()).start()
    family = balancer.processes()
    worker = by_slot(balancer)[0]
    try:
        worker.send_signal(signal.SIGSTOP)
        balancer.signal(signal.SIGKILL)
        wait_until(lambda: [one for one in family if alive(one)] in ([worker], []), "the others end", GONE_WITHIN)
        worker.send_signal(signal.SIGCONT)
        wait_until(lambda: not alive(worker), "the worker ends", GONE_WITHIN)
    finally:
        balancer.kill()


def test_while_it_drains(tmp_path: Path, tables: Callable[..., dict[str, Any]]) -> None:
    """The same when the workers have stopped accepting and wait for their last clients."""
    balancer = Balancer(tmp_path, tables(drain_timeout="60s")).start()
    family = balancer.processes()
    try:
        with ExitStack() as stack:
            held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
            balancer.signal(signal.SIGTERM)
            wait_until(lambda: refused(balancer.port("plain")), "the listeners close")
            for clients in held.values():
                clients[0].ping()
            os.kill(balancer.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(alive, family)), "all end", GONE_WITHIN)
    finally:
        balancer.kill()
