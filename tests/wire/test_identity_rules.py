"""`allow` and `deny`: refused in a full handshake and with a ticket, on both TLS versions, with the word, the identity and the
rule in the log (what a reload of them does: tests/process/test_reload_rules.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import forge
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

ALERT = "SSLV3_ALERT_CERTIFICATE_UNKNOWN"
ALLOW = ["cn:client-*", "dns:*.corp.example", "uri:spiffe://prod/**", "ou:billing"]
DENY = ["cn:client-9", "uri:spiffe://prod/evil/*"]


@pytest.fixture(scope="module")
def clients(pki: Pki) -> dict[str, Issued]:
    def forged(attributes: list[forge.Attribute], *names: forge.Name) -> Issued:
        return forge.client(pki.root, attributes, names)

    return {
        "good": pki.client,
        "by_name": pki.root.client("x", names=["host.corp.example"]),
        "by_uri": forged([("cn", forge.UTF8, b"y")], ("uri", b"spiffe://prod/ns/web")),
        "nobody": pki.root.client("stranger", names=["a.host.corp.example"]),
        "denied": pki.root.client("Client-9"),
        "denied_uri": forged([("cn", forge.UTF8, b"client-1")], ("uri", b"SPIFFE://PROD/evil/x")),
        "nul": forged([("cn", forge.UTF8, b"client-1\0.evil")], ("dns", b"host.corp.example")),
        "nul_name": forged([("cn", forge.UTF8, b"z")], ("dns", b"host.corp.example\0.evil")),
        "two_cns": forged([("cn", forge.UTF8, b"client-1"), ("cn", forge.UTF8, b"root")], ("dns", b"x.example")),
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], pki: Pki, backend: Backend) -> Balancer:
    def listener(**auth: object) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth=auth)

    return balancer_for(
        {
            "listeners": {
                "web": listener(allow=ALLOW, deny=DENY),
                "open": listener(deny=DENY[0]),
                "report": listener(mode="report", allow=ALLOW, deny=DENY),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize(
    ("listener", "client", "word", "detail"),
    [
        ("web", "good", None, ""),
        ("web", "by_name", None, ""),
        ("web", "by_uri", None, ""),
        ("web", "nobody", "not_allowed", "no entry of allow matches"),
        ("web", "denied", "denied", "deny[0] cn:client-9"),
        ("web", "denied_uri", "denied", "deny[1] uri:spiffe://prod/evil/*"),
        ("web", "nul", "bad_certificate", "unsupported or invalid name syntax"),
        ("web", "nul_name", "bad_certificate", "unsupported or invalid name syntax"),
        ("web", "two_cns", "not_allowed", "no entry of allow matches"),
        ("open", "nobody", None, ""),
        ("open", "denied", "denied", "deny[0] cn:client-9"),
    ],
)
def test_full_and_resumed(
    running: Balancer,
    backend: Backend,
    clients: dict[str, Issued],
    version: ssl.TLSVersion,
    listener: str,
    client: str,
    word: str | None,
    detail: str,
) -> None:
    """`word` is None for a client that is let in: then it is let in with its ticket too."""
    backend.forget()
    certificate = clients[client]
    context = client_context(None, version, certificate)
    if word is None:
        with TlsClient(running.port(listener), context) as first:
            first.handshake().ping()
            session = first.session
        with TlsClient(running.port(listener), context, session=session) as second:
            second.handshake().ping()
            assert second.resumed
        return
    before = terminations(running, listener, word)
    refused = TlsClient(running.port(listener), context)
    assert refusal(refused) == ALERT
    line = running.line(refused)
    assert (line["termination"], line["termination_detail"]) == (word, detail)
    assert line["client_cert_proven"] is False
    assert line["client_cert_sha256"] == certificate.sha256
    assert {"client_cert_subject", "client_cert_issuer", "client_cert_serial"} <= line.keys()
    assert terminations(running, listener, word) == before + 1
    assert backend.accepted == 0


@pytest.mark.parametrize(
    ("client", "word", "detail"),
    [
        ("good", "accepted", None),
        ("nobody", "not_allowed", "no entry of allow matches"),
        ("denied", "denied", "deny[0] cn:client-9"),
        ("denied_uri", "denied", "deny[1] uri:spiffe://prod/evil/*"),
    ],
)
def test_reported(
    running: Balancer, clients: dict[str, Issued], version: ssl.TLSVersion, client: str, word: str, detail: str | None
) -> None:
    """Who is let in all the same has in its line what would have refused it, full and resumed."""
    context = client_context(None, version, clients[client])
    session = None
    for resumed in (False, True):
        with TlsClient(running.port("report"), context, session=session) as made:
            made.handshake().ping()
            session = made.session
        line = running.line(made)
        assert line["tls_resumed"] is resumed
        assert (line["client_cert_verdict"], line.get("client_cert_verdict_detail")) == (word, detail)


def terminations(balancer: Balancer, listener: str, word: str) -> int:
    (found,) = (one for one in balancer.status()["listeners"] if one["name"] == listener)
    return int(found["terminations"].get(word, 0))
