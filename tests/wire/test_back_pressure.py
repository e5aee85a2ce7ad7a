"""A reader that stops for seconds: the writer on the other side stalls, the worker's memory stays bounded, a neighbour goes on,
and when the reader reads again not one byte is missing.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, digest_of, pattern
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient
from tests.support.waiting import stays, wait_still

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki

SIZE = 64 << 20
GROWTH = 16 << 20
PAUSE = 2.0


class GatedReader(Backend):
    """A server that reads nothing while its gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        super().__init__(lambda seen: backends.gated_sink(self.gate)(seen))


@pytest.fixture(scope="module")
def servers(use: Callable[[Any], Any]) -> dict[str, Backend]:
    """A server that sends much, one whose reading can be held, and an echo."""
    return {"source": use(Backend(backends.source(SIZE))), "reader": use(GatedReader()), "echo": use(Backend())}


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], servers: dict[str, Backend], pki: Pki) -> Balancer:
    """A listener for each server."""
    return balancer_for(
        {
            "listeners": {name: tls_listener(pki.server, ca=pki.root.path, group=name) for name in servers},
            "server_groups": {name: server_group(server) for name, server in servers.items()},
        }
    )


def test_client_stops_reading(balancer: Balancer, servers: dict[str, Backend], mutual: ssl.SSLContext) -> None:
    """Server to client."""
    source = servers["source"]
    with TlsClient(balancer.port("echo"), mutual) as neighbour, TlsClient(balancer.port("source"), mutual) as client:
        neighbour.handshake().ping()
        memory = balancer.worker_memory()
        client.handshake()
        seen = source.wait_accepted(1)
        stalled = wait_still(lambda: seen.sent, "the server is stopped by back-pressure")
        assert stalled < SIZE
        stays(lambda: seen.sent == stalled, "nothing more is taken from the server", PAUSE)
        assert balancer.worker_memory() - memory < GROWTH
        neighbour.ping(b"x" * 100_000)
        data, end = client.read_to_end(timeout=30)
        assert (hashlib.sha256(data).hexdigest(), end) == (digest_of(pattern(SIZE)), CLOSE_NOTIFY)
    source.forget()


def test_server_stops_reading(balancer: Balancer, servers: dict[str, Backend], mutual: ssl.SSLContext) -> None:
    """Client to server."""
    reader = servers["reader"]
    assert isinstance(reader, GatedReader)
    reader.gate.clear()
    with TlsClient(balancer.port("echo"), mutual) as neighbour, TlsClient(balancer.port("reader"), mutual) as client:
        neighbour.handshake().ping()
        memory = balancer.worker_memory()
        client.handshake()
        sent = 0

        def counted() -> Any:
            nonlocal sent
            for piece in pattern(SIZE):
                sent += len(piece)
                yield piece

        sender = threading.Thread(target=client.exchange, args=(counted(), hashlib.sha256()), name="sender")
        sender.start()
        try:
            stalled = wait_still(lambda: sent, "the client is stopped by back-pressure")
            assert stalled < SIZE
            stays(lambda: sent == stalled, "nothing more is taken from the client", PAUSE)
            assert balancer.worker_memory() - memory < GROWTH
            neighbour.ping(b"x" * 100_000)
        finally:
            reader.gate.set()
            sender.join(30)
        assert not sender.is_alive()
    reader.wait_finished()
    assert reader.last.digest.hexdigest() == digest_of(pattern(SIZE))
    reader.forget()
