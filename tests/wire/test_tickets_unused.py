"""An address whose clients never come back with a session ticket gets them in every sixteenth full handshake only; the
first client that does come back gets its address the full supply again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.tls_client import TLS13, TlsClient, client_context

if TYPE_CHECKING:
    import ssl

    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

UNUSED, AGAIN = 64, 16


def visit(web: Balancer, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> TlsClient:
    with TlsClient(web.port(), context, session=session) as client:
        client.handshake().ping()
        return client


def got_ticket(client: TlsClient) -> bool:
    return client.session is not None and client.session.has_ticket


def test_tickets_go_to_who_uses_them(web: Balancer, pki: Pki) -> None:
    context = client_context(pki.root.path, TLS13, pki.client)
    given = [got_ticket(visit(web, context)) for _ in range(UNUSED + AGAIN - 1)]
    assert given == [True] * UNUSED + [False] * (AGAIN - 1)
    last = visit(web, context)
    assert got_ticket(last)
    assert visit(web, context, last.session).resumed
    assert got_ticket(visit(web, context))
