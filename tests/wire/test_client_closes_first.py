"""The client ends first, properly: what it sent reaches the server, then end of file; the server's end comes back as close_notify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer


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
def to_sink(before: Callable[..., Balancer], sink: Backend) -> Balancer:
    """A balancer before a server that only reads."""
    return before(web=sink)


def test_client_closes_at_once(to_sink: Balancer, sink: Backend, mutual: ssl.SSLContext) -> None:
    """Data, close_notify and a closed socket without waiting for anything: the data still arrives whole.

    The kernel sends a reset instead of a FIN where the client has not read its TLS 1.3 tickets: either word is right.
    """
    sink.forget()
    with TlsClient(to_sink.port(), mutual) as client:
        client.handshake()
        client.send(b"x" * 50_000)
    sink.wait_accepted(1)
    sink.wait_finished()
    assert sink.last.received == 50_000
    assert to_sink.line(client)["termination"] in {"client_close", "client_reset"}


def test_client_closes_without_data(web: Balancer, mutual: ssl.SSLContext) -> None:
    """A handshake and a goodbye."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake().close_notify()
        assert client.read_to_end() == (b"", CLOSE_NOTIFY)
    assert web.line(client)["termination"] == "client_close"
