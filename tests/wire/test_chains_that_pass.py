"""Chains of client certificates that are right although they are odd: nobody honest is refused.

Intermediates in any order and beside certificates of no use, cross-signed roots, name constraints that are kept, a chain as
long as allowed, RSA-PSS, Ed25519, P-384 and P-521, and 64 KB of certificates; full and resumed, and explained.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nlbcli.explain import command as explain
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority, Issued, now, pem, write_key
from tests.support.tls_client import TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

DEPTH = 20
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
BULK = 64 * 1024
"""Bytes of certificates that a client may send; OpenSSL's own limit is 100 KB."""


class Signer:
    """A CA of a kind that `Authority` does not make: any key, any extension, any issuer."""

    def __init__(
        self, name: str, key: Any, issuer: Signer | None = None, *extensions: x509.ExtensionType, pss: bool = False
    ) -> None:
        self.name, self.key, self.pss = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, pss
        self.certificate = (issuer or self).sign(self.name, key, *extensions, ca=True)

    def sign(self, subject: x509.Name, key: Any, *extensions: x509.ExtensionType, ca: bool = False) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - dt.timedelta(days=1))
            .not_valid_after(now() + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.NameConstraints))
        digest = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self.key, digest, rsa_padding=PSS if self.pss else None)

    def client(
        self, folder: Path, name: str, key: Any, *chain: x509.Certificate, names: tuple[str, ...] = ()
    ) -> Issued:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extensions = [x509.SubjectAlternativeName([x509.DNSName(one) for one in names])] if names else []
        return issued(folder, self.sign(subject, key, *extensions), key, *chain)


def issued(folder: Path, leaf: x509.Certificate, key: Any, *chain: x509.Certificate) -> Issued:
    stem = folder / f"chain-{leaf.serial_number}"
    stem.with_suffix(".crt").write_bytes(b"".join(pem(one) for one in (leaf, *chain)))
    write_key(stem.with_suffix(".key"), key)
    return Issued(leaf, key, stem.with_suffix(".crt"), stem.with_suffix(".key"))


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def roots() -> dict[str, Signer]:
    rsa_root = Signer("RSA-PSS Root", rsa.generate_private_key(65537, 2048), pss=True)
    return {
        "pss": rsa_root,
        "ed25519": Signer("Ed25519 Root", ed25519.Ed25519PrivateKey.generate()),
        "p384": Signer("P-384 Root", ec.generate_private_key(ec.SECP384R1())),
        "plain": Signer("Plain Root", p256()),
    }


@pytest.fixture(scope="module")
def clients(pki: Pki, roots: dict[str, Signer], module_folder: Path) -> dict[str, Issued]:
    folder = module_folder
    upper = pki.root.intermediate("Chain Upper")
    lower = upper.intermediate("Chain Lower")
    shuffled = [pki.other.certificate, upper.certificate, pki.root.certificate, lower.certificate]
    long: Authority = pki.root
    for number in range(DEPTH):
        long = long.intermediate(f"Long {number}")
    # A root that is not trusted, and its certificate by one that is; both are sent, that one first, as OpenSSL needs it.
    stranger = Signer("Stranger Root", p256())
    plain, named = (
        roots["plain"],
        x509.NameConstraints([x509.DNSName("corp.example")], [x509.DNSName("bad.corp.example")]),
    )
    crossed = plain.sign(stranger.name, stranger.key, ca=True)
    limited = Signer("Limited", p256(), plain, named)
    padded = Signer(
        "Padded", p256(), plain, x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), bytes(BULK))
    )
    return {
        "any_order": lower.client("any-order", chain=shuffled),
        "long": long.client("long"),
        "cross_signed": stranger.client(folder, "crossed", p256(), crossed, stranger.certificate),
        "name_constraints": limited.client(
            folder, "limited-client", p256(), limited.certificate, names=("a.corp.example", "b.a.corp.example")
        ),
        "rsa_pss": roots["pss"].client(folder, "pss", rsa.generate_private_key(65537, 2048)),
        "ed25519": roots["ed25519"].client(folder, "ed25519", ed25519.Ed25519PrivateKey.generate()),
        "p384": roots["p384"].client(folder, "p384", ec.generate_private_key(ec.SECP384R1())),
        "p521": roots["p384"].client(folder, "p521", ec.generate_private_key(ec.SECP521R1())),
        "64_kilobytes": padded.client(folder, "padded-client", p256(), padded.certificate),
    }


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, roots: dict[str, Signer], module_folder: Path
) -> Balancer:
    """One listener that trusts all these roots."""
    bundle = module_folder / "roots.pem"
    bundle.write_bytes(
        b"".join(pem(one) for one in (pki.root.certificate, *(one.certificate for one in roots.values())))
    )
    listener = tls_listener(pki.server, ca=bundle, client_auth={"depth": DEPTH})
    return balancer_for({"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}})


KINDS = (
    "any_order",
    "long",
    "cross_signed",
    "name_constraints",
    "rsa_pss",
    "ed25519",
    "p384",
    "p521",
    "64_kilobytes",
)


@pytest.mark.parametrize("kind", KINDS)
def test_let_in(balancer: Balancer, clients: dict[str, Issued], version: ssl.TLSVersion, kind: str) -> None:
    context = client_context(None, version, clients[kind])
    with TlsClient(balancer.port(), context) as client:
        client.handshake().ping()
        session = client.session
    line = balancer.line(client)
    assert line["client_cert_proven"] is True
    assert line["client_cert_sha256"].replace(":", "").lower() == clients[kind].sha256
    with TlsClient(balancer.port(), context, session=session) as again:
        again.handshake().ping()
        assert again.resumed


@pytest.mark.parametrize("kind", KINDS)
def test_explained(balancer: Balancer, clients: dict[str, Issued], module_folder: Path, kind: str) -> None:
    """`nlb explain` lets them in too, with what the client sends in a file of its own; the chain ends at a CA of the listener."""
    first, *others = x509.load_pem_x509_certificates(clients[kind].path.read_bytes())
    leaf, chain = module_folder / "leaf.pem", module_folder / "chain.pem"
    leaf.write_bytes(pem(first))
    chain.write_bytes(b"".join(pem(one) for one in others))
    arguments = [str(leaf), "-c", str(balancer.path), "--json", *(("--chain", str(chain)) if others else ())]
    done = CliRunner().invoke(explain, arguments)
    told = json.loads(done.stdout)
    assert (told["word"], told["accepted"], done.exit_code) == ("accepted", True, 0), told
    assert len(told["chain"]) >= 2
    if others:
        done = CliRunner().invoke(explain, [str(leaf), "-c", str(balancer.path), "--json"])
        assert (json.loads(done.stdout)["word"], done.exit_code) == ("unknown_ca", 1), "without them it is not"
