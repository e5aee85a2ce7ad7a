"""Certificates that are well signed by a trusted CA and yet nobody's, each with its word, on both TLS versions: those of CAs and
for signing certificates, X.509 v1 (in ``test_ca_made_with_openssl_x509``), weak and DSA keys, malformed names, wildcard names that
stand for one which a CA above must not vouch for. Beside each stands its nearest neighbour, which is a client.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certs import alternative_names
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Issued, Pki

EMAIL, DNS, URI, ADDRESS = 0x81, 0x82, 0x86, 0x87


def named(value: str) -> x509.Name:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about what is wrong with it
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value, _validate=False)])


def constrained(pki: Pki, *excluded: str, name: str) -> Issued:
    """A client with this DNS name under a CA that must not vouch for some."""
    constraints = x509.NameConstraints(None, [x509.DNSName(one) for one in excluded])
    return pki.root.intermediate("Constrained", extensions=(constraints,)).client("constrained", names=[name])


REFUSED: dict[str, tuple[str, Callable[[Pki], Issued]]] = {
    "ca": ("wrong_purpose", lambda p: p.root.client("a-ca", is_ca=True)),
    "signs": ("wrong_purpose", lambda p: p.root.client("signs", signs=True)),
    "nameless": ("bad_certificate", lambda p: p.root.client("nameless", subject=x509.Name([]))),
    "nul-in-cn": ("bad_certificate", lambda p: p.root.client("nul", subject=named("client-1\0.evil"))),
    "empty-cn": ("bad_certificate", lambda p: p.root.client("empty", subject=named(""))),
    "no-alternatives": ("bad_certificate", lambda p: p.root.client("none", extensions=[alternative_names()])),
    **{
        f"dns-{name!r}": (
            "bad_certificate",
            lambda p, name=name: p.root.client("dns", extensions=[alternative_names((DNS, name))]),  # type: ignore[misc]
        )
        for name in (
            b"",
            b"a\0.example.com",
            b"a b.example.com",
            b".example.com",
            b"a..example.com",
            b"\xc3\xa4.example.com",
        )
    },
    "uri-nul": (
        "bad_certificate",
        lambda p: p.root.client("uri", extensions=[alternative_names((URI, b"spiffe://prod/a\0b"))]),
    ),
    "email-empty": ("bad_certificate", lambda p: p.root.client("mail", extensions=[alternative_names((EMAIL, b""))])),
    "address-of-3": (
        "bad_certificate",
        lambda p: p.root.client("ip", extensions=[alternative_names((ADDRESS, b"\x7f\0\0"))]),
    ),
    "excluded": ("bad_certificate", lambda p: constrained(p, "secret.example.com", name="secret.example.com")),
    "excluded-wildcard": ("bad_certificate", lambda p: constrained(p, "secret.example.com", name="*.Example.com")),
}
WELCOME: dict[str, Callable[[Pki], Issued]] = {
    "many-names": lambda p: p.root.client(
        "many",
        extensions=[
            alternative_names(
                (DNS, b"*.example.com"), (DNS, b"a_b.example.com."), (URI, b"spiffe://prod/a"), (EMAIL, b'"a b"@example.com'),
                (ADDRESS, b"\x7f\0\0\x01"), (ADDRESS, bytes(16)), (0x88, b"\x2a\x03"),
            )
        ],
    ),
    "wide-letters": lambda p: p.root.client(
        "wide", subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client", _type=x509.name._ASN1Type.BMPString)])
    ),
    "no-cn": lambda p: p.root.client(
        "no-cn", subject=x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    ),
    "wildcard-beside": lambda p: constrained(p, "secret.example.org", "a.b.example.com", name="*.example.com"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(web: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, kind: str) -> None:
    """By an alert, with its word, and nothing at a server."""
    backend.forget()
    word, make = REFUSED[kind]
    certificate = make(pki)
    client = TlsClient(web.port(), client_context(pki.root.path, version, certificate))
    assert "ALERT" in refusal(client)
    line = web.line(client)
    assert line["termination"] == word, line
    assert (line["client_cert_proven"], line["client_cert_sha256"]) == (False, certificate.sha256)
    assert backend.accepted == 0


@pytest.mark.parametrize("kind", WELCOME)
def test_welcome(web: Balancer, pki: Pki, version: ssl.TLSVersion, kind: str) -> None:
    with TlsClient(web.port(), client_context(pki.root.path, version, WELCOME[kind](pki))) as client:
        client.handshake().ping()
