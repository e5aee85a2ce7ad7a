"""Every bad client certificate is refused, on both TLS versions, with its own word in the log.

The client sees a TLS alert; the line has the identity as claimed (`client_cert_proven` false); no server is dialled, so none
gets a byte; a neighbour's connection goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import BAD_CLIENTS, Issued
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki


def check_claimed(balancer: Balancer, client: TlsClient, certificate: Issued, word: str) -> None:
    """The log's line of a refused client."""
    line = balancer.line(client)
    assert line["termination"] == word
    assert line["client_cert_proven"] is False
    assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
    assert certificate.common_name in line["client_cert_subject"]
    assert "server" not in line
    assert line.get("sent_bytes", 0) == 0


@pytest.mark.parametrize("kind", BAD_CLIENTS)
def test_refused(
    web: Balancer, backend: Backend, pki: Pki, neighbour: TlsClient, version: ssl.TLSVersion, kind: str
) -> None:
    """One kind of bad certificate."""
    certificate = pki.bad_client(kind)
    client = TlsClient(web.port(), client_context(pki.root.path, version, certificate))
    assert "ALERT" in refusal(client)
    check_claimed(web, client, certificate, BAD_CLIENTS[kind][0])
    neighbour.ping()
    assert backend.accepted == 1


def test_no_certificate(
    web: Balancer, backend: Backend, pki: Pki, neighbour: TlsClient, version: ssl.TLSVersion
) -> None:
    """None at all: `no_certificate`, with the version's own alert and no identity in the log."""
    client = TlsClient(web.port(), client_context(pki.root.path, version))
    alert = refusal(client)
    assert alert == ("TLSV13_ALERT_CERTIFICATE_REQUIRED" if version == TLS13 else "SSLV3_ALERT_HANDSHAKE_FAILURE")
    line = web.line(client)
    assert line["termination"] == "no_certificate"
    assert not line.get("client_cert_proven", False)
    assert "client_cert_subject" not in line
    neighbour.ping()
    assert backend.accepted == 1


@pytest.mark.parametrize("kind", [None, "unknown_ca", "expired"])
def test_data_sent_at_once(web: Balancer, backend: Backend, pki: Pki, kind: str | None) -> None:
    """A TLS 1.3 client believes it is connected and sends with its last flight: not one byte reaches a server."""
    backend.forget()
    certificate = None if kind is None else pki.bad_client(kind)
    client = TlsClient(web.port(), client_context(pki.root.path, TLS13, certificate))
    client.stop_before_last_flight()
    client.send(b"stolen")
    client.release()
    refusal(client)
    assert web.line(client)["termination"] == (BAD_CLIENTS[kind][0] if kind else "no_certificate")
    assert (backend.accepted, backend.received) == (0, 0)


@pytest.fixture(scope="module")
def lax(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """The weakest policy, which puts OpenSSL at security level 0."""
    listener = tls_listener(pki.server, ca=pki.root.path, security_policy="tls_cipher_policy_1_0")
    return balancer_for({"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}})


@pytest.mark.parametrize("kind", ["weak_rsa", "weak_digest", "weak_intermediate"])
def test_weak_keys_under_the_weakest_policy(lax: Balancer, backend: Backend, pki: Pki, kind: str) -> None:
    """Our own rule holds where OpenSSL would accept."""
    backend.forget()
    certificate = pki.bad_client(kind)
    client = TlsClient(lax.port(), client_context(pki.root.path, TLS12, certificate))
    assert "ALERT" in refusal(client)
    check_claimed(lax, client, certificate, "weak_key")
    assert backend.accepted == 0
