"""Certificates for the unit tests of `nlbcore.tls`: P-256, made once per session, and variations made on demand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate with its key, and who issued it."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self, style: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> bytes:
        protection = BestAvailableEncryption(password) if password else NoEncryption()
        pem: bytes = self.key.private_bytes(Encoding.PEM, style, protection)
        return pem


def make(
    name: str = "www.example.com",
    issuer: Made | None = None,
    *,
    key: Any = None,
    ca: bool | None = False,
    sans: Sequence[str] | None = ("www.example.com", "*.Example.ORG"),
    purposes: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
    usage: str | None = None,
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 30 * DAY,
) -> Made:
    """A certificate; without an issuer it signs itself. `ca=None` leaves basicConstraints out; `usage` names the one bit set."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if sans is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in sans]), critical=False
        )
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if usage is not None:
        bits = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
        flags = {bit: bit == usage for bit in (*bits.split(), "encipher_only", "decipher_only")}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    signer = issuer.key if issuer else key
    plain = type(signer).__name__.startswith(("Ed", "_Ed"))
    return Made(builder.sign(signer, None if plain else hashes.SHA256()), key)


def make_ca(name: str = "root", issuer: Made | None = None, **changes: Any) -> Made:
    return make(name, issuer, **{"ca": True, "sans": None, "purposes": None, **changes})


@dataclass(frozen=True)
class Pki:
    root: Made
    intermediate: Made
    server: Made


@pytest.fixture(scope="session")
def pki() -> Pki:
    root = make_ca()
    intermediate = make_ca("intermediate", root)
    return Pki(root, intermediate, make(issuer=intermediate))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(NAME, BYTES)` makes a file of mode 0600."""

    def writer(name: str, data: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    return writer


@pytest.fixture(scope="session")
def maker() -> Callable[..., Made]:
    return make


@pytest.fixture(scope="session")
def ca_maker() -> Callable[..., Made]:
    return make_ca
