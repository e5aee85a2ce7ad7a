"""No server is dialled before the client's certificate has been accepted: a client that holds back its last flight causes no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.tls_client import TlsClient
from tests.support.waiting import stays

if TYPE_CHECKING:
    import ssl

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer


def test_no_dial_before_the_last_flight(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Nothing while the flight is held, one connection after it."""
    backend.forget()
    with TlsClient(web.port(), mutual) as client:
        client.stop_before_last_flight()
        stays(lambda: backend.accepted == 0, "no server is dialled", 0.3)
        client.release()
        client.handshake().ping()
        assert backend.accepted == 1
