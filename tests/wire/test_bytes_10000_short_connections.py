"""10,000 connections, each with a few bytes there and back: 9,000 to a plain listener, 1,000 over TLS (a part resumed).

Every one is served, every one has its line in the log, and afterwards (the check after each test) no descriptor is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import TlsClient, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

PLAIN = 9000
TLS = 500


@pytest.fixture(scope="module")
def both(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A plain and a mutual-TLS listener before an echo server."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path), "plain": plain_listener()},
            "server_groups": {"app": server_group(backend)},
        }
    )


def test_plain(both: Balancer, backend: Backend) -> None:
    """Plain TCP: each connection gets its own bytes back."""
    for number in range(PLAIN):
        with connect(both.port("plain")) as sock:
            data = b"connection %d" % number
            sock.sendall(data)
            assert sock.recv(100) == data
    assert backend.accepted == PLAIN
    lines = both.access.wait_count(PLAIN, timeout=15, listener="plain")
    assert len(lines) == PLAIN
    assert {line["termination"] for line in lines} == {"client_close"}
    backend.forget()


def test_tls(both: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """TLS: full handshakes and resumptions in turn."""
    mark = both.access.mark()
    session = None
    for number in range(TLS):
        with TlsClient(both.port(), mutual, session=session) as client:
            client.handshake().ping(b"connection %d" % number)
            session = client.session if number % 2 == 0 else None
    lines = both.access.wait_count(TLS, timeout=15, since=mark, listener="web")
    assert len(lines) == TLS
    assert {line["termination"] for line in lines} == {"client_close"}
    assert sum(line["tls_resumed"] for line in lines) == TLS // 2
    backend.forget()
