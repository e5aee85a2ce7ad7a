"""Session tickets are held back for the first answer, which they travel with; a client that says nothing, and is told
nothing, gets them all the same a moment later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.tls_client import TLS13, TlsClient, client_context

if TYPE_CHECKING:
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki


def test_tickets_come_alone(web: Balancer, pki: Pki) -> None:
    with TlsClient(web.port(), client_context(pki.root.path, TLS13, pki.client)) as client:
        client.handshake()

        with pytest.raises(TimeoutError):
            client.recv(timeout=1.0)  # there are no data, but what comes is read
        assert client.session is not None
        assert client.session.has_ticket
