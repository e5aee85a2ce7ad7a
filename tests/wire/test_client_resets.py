"""A client resets its established connection: logged `client_reset`, the server's connection ends, a neighbour goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.tls_client import TlsClient
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer


def test_client_resets(web: Balancer, backend: Backend, mutual: ssl.SSLContext, neighbour: TlsClient) -> None:
    """With nothing under way."""
    client = TlsClient(web.port(), mutual)
    client.handshake().ping()
    seen = backend.wait_accepted(2)
    client.abort()
    assert web.line(client)["termination"] == "client_reset"
    wait_until(lambda: seen.finished, "the server's connection ends")


def test_reset_storm(web: Balancer, mutual: ssl.SSLContext, neighbour: TlsClient) -> None:
    """A hundred resets at once, some in the middle of the handshake."""
    clients = [TlsClient(web.port(), mutual) for _ in range(100)]
    for number, client in enumerate(clients):
        if number % 2:
            client.step()
        else:
            client.handshake()
    for client in clients:
        client.abort()
    neighbour.ping()
