"""A ticket must never let in who would be refused without it, on TLS 1.2 and 1.3, by ticket and by session id.

Offered are: a ticket of a listener without client authentication to one that requires it, of one CA's listener to another's,
at another server name, and after the client's certificate has expired. Each test first shows that the same ticket does
resume where it was issued, so that the refusal means something. (nginx CVE-2025-23419, Apache CVE-2025-23048; Debian's
HAProxy 2.6 fails the session-id case.)
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import now
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

OPEN = "open"


@pytest.fixture(scope="module")
def other_server(pki: Pki) -> Issued:
    """A certificate for a second name."""
    return pki.root.server("other.example.com")


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, other_server: Issued) -> Balancer:
    """Listeners that differ only in whom they let in."""

    def listener(**keys: Any) -> dict[str, object]:
        return tls_listener(pki.server, other_server, **keys)

    return balancer_for(
        {
            "listeners": {
                OPEN: listener(),
                "off": {**listener(), "client_auth": {"mode": "off", "ca": [str(pki.root.path)]}},
                "root": listener(ca=pki.root.path),
                "root_again": listener(ca=pki.root.path),
                "other": listener(ca=pki.other.path),
                "both": listener(ca=[pki.root.path, pki.other.path]),
                "shallow": listener(ca=pki.root.path, client_auth={"depth": 0}),
                "strict": listener(ca=pki.root.path, strict_sni=True),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


BY = pytest.mark.parametrize(
    ("version", "tickets"),
    [(TLS12, True), (TLS12, False), (TLS13, True)],
    ids=["tls12-ticket", "tls12-session_id", "tls13-ticket"],
)


def obtain(balancer: Balancer, listener: str, context: ssl.SSLContext, *, sure: bool = True) -> ssl.SSLSession:
    """A session of a listener; with `sure`, shown to be resumed there."""
    port = balancer.port(listener)
    with TlsClient(port, context) as client:
        client.handshake().ping()
        session = client.session
    assert session is not None
    if sure:
        with TlsClient(port, context, session=session) as client:
            client.handshake().ping()
            assert client.resumed, f"a ticket of {listener} is not resumed at {listener}"
    return session


@BY
@pytest.mark.parametrize("source", [OPEN, "off"])
@pytest.mark.parametrize("target", ["root", "other", "both"])
def test_from_no_authentication_to_required(
    balancer: Balancer, backend: Backend, version: ssl.TLSVersion, tickets: bool, source: str, target: str
) -> None:
    """Without a certificate: `no_certificate`, whatever is offered."""
    context = client_context(None, version, tickets=tickets)
    session = obtain(balancer, source, context, sure=tickets)
    backend.forget()
    client = TlsClient(balancer.port(target), context, session=session)
    refusal(client)
    assert balancer.line(client)["termination"] == "no_certificate"
    assert backend.accepted == 0


@BY
def test_between_authorities(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, tickets: bool
) -> None:
    """Accepted by one CA's listener, offered to another CA's: `unknown_ca`."""
    context = client_context(None, version, pki.client, tickets=tickets)
    session = obtain(balancer, "root", context, sure=tickets)
    backend.forget()
    client = TlsClient(balancer.port("other"), context, session=session)
    refusal(client)
    line = balancer.line(client)
    assert line["termination"] == "unknown_ca"
    assert line["client_cert_proven"] is False
    assert backend.accepted == 0


def test_from_two_authorities_to_one(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """Let in by a listener with both CAs under the second one, offered where only the first is trusted."""
    stranger = pki.bad_client("unknown_ca")
    context = client_context(None, version, stranger)
    session = obtain(balancer, "both", context)
    backend.forget()
    client = TlsClient(balancer.port("root"), context, session=session)
    refusal(client)
    assert balancer.line(client)["termination"] == "unknown_ca"
    assert backend.accepted == 0


def test_to_less_depth(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """Under an intermediate, offered to a listener that allows none."""
    context = client_context(None, version, pki.intermediate.client("below-an-intermediate"))
    session = obtain(balancer, "root", context)
    backend.forget()
    client = TlsClient(balancer.port("shallow"), context, session=session)
    refusal(client)
    assert balancer.line(client)["termination"] == "chain_too_long"
    assert backend.accepted == 0


def test_same_policy_on_another_listener(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Even where the policy is the same, a ticket belongs to its listener: a full handshake, and the client is let in."""
    context = client_context(None, version, pki.client)
    session = obtain(balancer, "root", context)
    with TlsClient(balancer.port("root_again"), context, session=session) as client:
        client.handshake().ping()
        assert not client.resumed
    assert balancer.line(client)["client_cert_proven"] is True


def test_at_another_server_name(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Within one listener the policy is one: resumed or not, the line names the client, proven.

    (The name a resumed TLS 1.2 connection asked for cannot be seen: OpenSSL gives the session's.)
    """
    context = client_context(None, version, pki.client)
    session = obtain(balancer, "root", context)
    with TlsClient(balancer.port("root"), context, session=session, server_name="other.example.com") as client:
        client.handshake().ping()
    line = balancer.line(client)
    if version == TLS13 or not client.resumed:
        assert line["domain_name"] == "other.example.com"
    assert line["client_cert_proven"] is True
    assert line["client_cert_sha256"].replace(":", "").lower() == pki.client.sha256


def test_at_an_unknown_server_name(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """`strict_sni` holds for a ticket too."""
    context = client_context(None, version, pki.client)
    session = obtain(balancer, "strict", context, sure=version == TLS13)  # TLS 1.2 may give no tickets here, to be safe
    backend.forget()
    client = TlsClient(balancer.port("strict"), context, session=session, server_name="unknown.example.net")
    refusal(client)
    assert balancer.line(client)["termination"] == "unknown_name"
    assert backend.accepted == 0


def test_after_expiry(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """A ticket from before the client's certificate expired is `expired` after it."""
    expiry = now() + dt.timedelta(seconds=4)
    context = client_context(None, version, pki.root.client("short-lived", not_after=expiry))
    session = obtain(balancer, "root", context)
    backend.forget()
    time.sleep(max(0.0, (expiry - dt.datetime.now(dt.UTC)).total_seconds()) + 1.2)  # time is the behaviour
    client = TlsClient(balancer.port("root"), context, session=session)
    refusal(client)
    line = balancer.line(client)
    assert line["termination"] == "expired"
    assert line["client_cert_proven"] is False
    assert backend.accepted == 0
