"""The client ends first, properly: what it sent reaches the server, then end of file; the server's end comes back as close_notify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki


def test_client_closes_first(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Logged `client_close`."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake()
        client.send(b"last words")
        client.close_notify()
        assert client.read_to_end() == (b"last words", CLOSE_NOTIFY)
    backend.wait_finished()
    assert (backend.last.received, backend.last.end) == (10, "eof")
    assert web.line(client)["termination"] == "client_close"


@pytest.fixture(scope="module")
def reader(use: Callable[[Any], Any]) -> Backend:
    """A server that only reads."""
    return use(Backend(backends.sink))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def to_reader(balancer_for: Callable[..., Balancer], reader: Backend, pki: Pki) -> Balancer:
    """A balancer before it."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
            "server_groups": {"app": server_group(reader)},
        }
    )


def test_client_closes_at_once(to_reader: Balancer, reader: Backend, mutual: ssl.SSLContext) -> None:
    """Data, close_notify and a closed socket without waiting for anything: the data still arrives whole.

    The kernel sends a reset instead of a FIN where the client has not read its TLS 1.3 tickets: either word is right.
    """
    reader.forget()
    with TlsClient(to_reader.port(), mutual) as client:
        client.handshake()
        client.send(b"x" * 50_000)
    reader.wait_accepted(1)
    reader.wait_finished()
    assert reader.last.received == 50_000
    assert to_reader.line(client)["termination"] in {"client_close", "client_reset"}


def test_client_closes_without_data(web: Balancer, mutual: ssl.SSLContext) -> None:
    """A handshake and a goodbye."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake().close_notify()
        assert client.read_to_end() == (b"", CLOSE_NOTIFY)
    assert web.line(client)["termination"] == "client_close"
