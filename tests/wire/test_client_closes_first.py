"""The client ends first, properly: what it sent reaches the server, then end of file; the server's end comes back as close_notify."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl

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


def test_client_closes_at_once(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Data, close_notify and FIN without waiting for anything: the data still arrives whole."""
    backend.forget()
    with TlsClient(web.port(), mutual) as client:
        client.handshake()
        client.send(b"x" * 50_000)
    backend.wait_accepted(1)
    backend.wait_finished()
    assert backend.last.received == 50_000
    assert web.line(client)["termination"] == "client_close"


def test_client_closes_without_data(web: Balancer, mutual: ssl.SSLContext) -> None:
    """A handshake and a goodbye."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake().close_notify()
        assert client.read_to_end() == (b"", CLOSE_NOTIFY)
    assert web.line(client)["termination"] == "client_close"
