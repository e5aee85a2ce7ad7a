"""A connection that leaves without a byte (a health check of something else) is no event: no line in the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import backends
from tests.support.tls_client import TlsClient, client_context, connect

if TYPE_CHECKING:
    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki


@pytest.mark.parametrize("manner", ["fin", "reset"])
def test_probe(web: Balancer, backend: Backend, pki: Pki, manner: str) -> None:
    """Not logged, no server dialled; the next connection is logged, so the log was not just late."""
    backend.forget()
    ports = set()
    for _ in range(20):
        sock = connect(web.port())
        ports.add(sock.getsockname()[1])
        if manner == "reset":
            backends.reset(sock)
        else:
            sock.close()
    with TlsClient(web.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping()
    web.line(client)
    assert not web.access.find(lambda line: line["client_port"] in ports - {client.port})
    assert backend.accepted == 1
