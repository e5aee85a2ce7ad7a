"""Session resumption: tickets work on both TLS versions, keep the client's identity, live as long as configured, and can be off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

LIFETIME = 2


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """Tickets as by default, short-lived, and none."""

    def listener(**keys: Any) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, **keys)

    return balancer_for(
        {
            "listeners": {
                "web": listener(),
                "short": listener(session_ticket_lifetime=f"{LIFETIME}s"),
                "none": listener(session_tickets=False),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


def visit(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[TlsClient, ssl.SSLSession | None]:
    """One connection with some data; the closed client, and the session it got."""
    with TlsClient(port, context, session=session) as client:
        client.handshake().ping()
        return client, client.session


def test_resumed_with_identity(balancer: Balancer, pki: Pki, mutual: ssl.SSLContext) -> None:
    """The second connection is resumed, and the log knows the client as well as the first time."""
    first, session = visit(balancer.port(), mutual)
    second, _ = visit(balancer.port(), mutual, session)
    assert (first.resumed, second.resumed) == (False, True)
    before, after = balancer.line(first), balancer.line(second)
    assert (before["tls_resumed"], after["tls_resumed"]) == (False, True)
    identity = {key: value for key, value in before.items() if key.startswith("client_cert")}
    assert identity["client_cert_proven"] is True
    assert pki.client.sha256 == identity["client_cert_sha256"].replace(":", "").lower()
    assert {key: value for key, value in after.items() if key.startswith("client_cert")} == identity


def test_ticket_serves_many_times(balancer: Balancer, pki: Pki) -> None:
    """Clients open several connections with one ticket (TLS 1.2)."""
    context = client_context(pki.root.path, TLS12, pki.client)
    _, session = visit(balancer.port(), context)
    assert all(visit(balancer.port(), context, session)[0].resumed for _ in range(5))


def test_lifetime(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """A ticket says its lifetime, is good within it and not after it; the client is let in all the same."""
    _, session = visit(balancer.port("short"), mutual)
    assert session is not None
    assert session.ticket_lifetime_hint == LIFETIME
    assert visit(balancer.port("short"), mutual, session)[0].resumed
    time.sleep(LIFETIME + 1.1)  # time is the behaviour
    late, _ = visit(balancer.port("short"), mutual, session)
    assert not late.resumed
    assert balancer.line(late)["client_cert_proven"] is True


def test_default_lifetime(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """300 s."""
    _, session = visit(balancer.port(), mutual)
    assert session is not None
    assert session.ticket_lifetime_hint == 300


@pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "session_id"])
def test_off(balancer: Balancer, pki: Pki, version: ssl.TLSVersion, tickets: bool) -> None:
    """`session_tickets = false`: no ticket is given and nothing is resumed, by ticket or by session id."""
    context = client_context(pki.root.path, version, pki.client, tickets=tickets)
    _, session = visit(balancer.port("none"), context)
    assert session is None or not session.has_ticket
    again, _ = visit(balancer.port("none"), context, session)
    assert not again.resumed
    assert balancer.line(again)["tls_resumed"] is False


def test_no_endless_renewal(balancer: Balancer, pki: Pki) -> None:
    """A resumed connection gives no new ticket, or certificates would never be looked at again (TLS 1.3)."""
    context = client_context(pki.root.path, TLS13, pki.client)
    _, session = visit(balancer.port(), context)
    assert session is not None
    assert session.has_ticket
    second, renewed = visit(balancer.port(), context, session)
    assert second.resumed
    assert renewed is None or renewed == session or not renewed.has_ticket
