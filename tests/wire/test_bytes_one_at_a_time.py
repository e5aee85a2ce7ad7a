"""Writes of one byte, thousands of them, in each direction: the bytes and their order are the same on the other side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Seen, pattern
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki

DATA = b"".join(pattern(3000))


def trickle(seen: Seen) -> None:
    """Send DATA in writes of one byte, then close."""
    for byte in DATA:
        seen.send(bytes([byte]))


@pytest.fixture(scope="module")
def trickling(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], pki: Pki) -> Balancer:
    """A balancer before a server that writes single bytes."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
            "server_groups": {"app": server_group(use(Backend(trickle)))},
        }
    )


def test_client_writes_single_bytes(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """One TLS record per byte."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake()
        for byte in DATA:
            client.send(bytes([byte]))
        assert client.recv_exactly(len(DATA)) == DATA
    backend.wait_finished()
    assert bytes(backend.last.data) == DATA


def test_client_segments_of_one_byte(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Whole records in TCP segments of one byte."""
    with TlsClient(web.port(), mutual, chop=1) as client:
        client.handshake().ping(DATA)


def test_server_writes_single_bytes(trickling: Balancer, mutual: ssl.SSLContext) -> None:
    """The server's bytes arrive whole, then its end."""
    with TlsClient(trickling.port(), mutual) as client:
        assert client.handshake().read_to_end() == (DATA, CLOSE_NOTIFY)
