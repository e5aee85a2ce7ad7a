"""Clients that send TLS records of one byte cost a lot per byte; their neighbours are served between them all the same."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.tls_client import TLS13, TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

CLIENTS = 16
RECORDS = 60_000


@pytest.fixture(scope="module")
def balancer(before: Callable[..., Balancer], backend: Backend, sink: Backend) -> Balancer:
    """One listener before an echo, one before a server that only reads."""
    return before(web=backend, sink=sink)


def records(client: TlsClient) -> bytes:
    """Records of one byte each, not sent."""
    for _ in range(RECORDS):
        client.tls.write(b"x")
    return client._out.read()


def test_small_records(balancer: Balancer, sink: Backend, pki: Pki) -> None:
    """A million records are worked off, and no ping of the neighbour's has to wait until the last of them.

    The bound is a share of the time that all of it takes, so that a slow machine changes nothing.
    """
    context = client_context(pki.root.path, TLS13, pki.client)
    with ExitStack() as stack:
        neighbour = stack.enter_context(TlsClient(balancer.port(), context)).handshake()
        neighbour.ping()
        clients = [stack.enter_context(TlsClient(balancer.port("sink"), context)).handshake() for _ in range(CLIENTS)]
        floods = [records(client) for client in clients]
        for client in clients:
            client.sock.settimeout(30)
        senders = [
            threading.Thread(target=client.sock.sendall, args=(flood,))
            for client, flood in zip(clients, floods, strict=True)
        ]
        start = time.monotonic()
        for sender in senders:
            sender.start()
        pings = []
        while sink.received < CLIENTS * RECORDS and time.monotonic() < start + 30:
            pings.append(neighbour.ping(timeout=30))
            time.sleep(0.001)  # leaves the processor to the senders
        for sender in senders:
            sender.join()
        took = time.monotonic() - start
        assert sink.received == CLIENTS * RECORDS
        worst = max(pings)
        assert worst < took / 3, (
            f"a ping takes {worst * 1000:.0f} ms of the {took * 1000:.0f} ms that all the others take"
        )
