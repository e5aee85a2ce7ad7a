"""A refused client's certificate is what it made up: however big, its access log line is short, and names it by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

NAMES = 4500
LONGEST_LINE = 16384


def test_big_certificate(web: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """One of 90 KB, just below what OpenSSL takes."""
    stranger = pki.other.client("stranger", names=[f"no{number}.example.org" for number in range(NAMES)])
    assert 85_000 < len(stranger.der) < 100_000
    backend.forget()
    client = TlsClient(web.port(), client_context(None, version, stranger))
    refusal(client)
    line = web.line(client)
    assert line["termination"] == "unknown_ca"
    assert line["client_cert_sha256"].replace(":", "").lower() == stranger.sha256
    assert line["client_cert_proven"] is False
    assert max(len(text) for text in web.access.path.read_bytes().splitlines()) < LONGEST_LINE
    assert backend.accepted == 0
