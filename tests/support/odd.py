"""Certificates that no authority of ours makes: every extension may be left out or changed, every date chosen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


class Odd:
    """A key and a certificate over it, written to `NAME.crt` and `NAME.key`.

    Args:
        folder: where
        name: common name and stem of the files; empty for no subject
        issuer: who signs; itself unless given
        ca: what basicConstraints say, None for none
        usages: extended key usages, empty for none
        dns: alternative DNS names, empty for no such extension
        days: from begin to end
        begin: default an hour ago
        key: a private key; default a new one, EC P-256
        signs: what key usage says of signing certificates, None for no key usage; as `ca` unless given
        identifiers: with subject and authority key identifiers
        path_length, permitted: constraints of an authority
        digest: of the signature
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        issuer: Odd | None = None,
        ca: bool | None = False,
        usages: Sequence[ObjectIdentifier] = (CLIENT,),
        dns: Sequence[str] = (),
        days: float = 30,
        begin: dt.datetime | None = None,
        key: Any = None,
        signs: bool | str | None = "as ca",
        digital_signature: bool = True,
        critical: bool = True,
        identifiers: bool = True,
        path_length: int | None = None,
        permitted: Sequence[x509.GeneralName] = (),
        more: Sequence[tuple[x509.ExtensionType, bool]] = (),
        digest: hashes.HashAlgorithm | None = None,
        file: str = "",
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        signer = issuer or self
        begin = begin or dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + dt.timedelta(days=days))
        )
        extensions: list[tuple[x509.ExtensionType, bool]] = list(more)
        if ca is not None:
            extensions.append((x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical))
        if signs is not None:
            may_sign = bool(ca) if signs == "as ca" else bool(signs)
            usage = x509.KeyUsage(
                digital_signature=digital_signature,
                content_commitment=False,
                key_encipherment=not digital_signature,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=may_sign,
                crl_sign=may_sign,
                encipher_only=False,
                decipher_only=False,
            )
            extensions.append((usage, True))
        if usages and not ca:
            extensions.append((x509.ExtendedKeyUsage(list(usages)), False))
        if dns:
            extensions.append((x509.SubjectAlternativeName([x509.DNSName(one) for one in dns]), False))
        if permitted:
            extensions.append((x509.NameConstraints(list(permitted), None), True))
        if identifiers:
            extensions.append((x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False))
            own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
            extensions.append((own, False))
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        edwards = isinstance(signer.key, ed25519.Ed25519PrivateKey)
        self.certificate = builder.sign(signer.key, None if edwards else digest or hashes.SHA256())  # type: ignore[arg-type]
        self.path = folder / f"{file or name or 'nameless'}.crt"
        self.key_path = self.path.with_suffix(".key")
        self.path.write_bytes(self.pem)
        self.key_path.touch(0o600)
        self.key_path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def authority(folder: Path, name: str, **options: Any) -> Odd:
    """A certificate that may sign others; ten years."""
    return Odd(folder, name, **{"ca": True, "days": 3650, **options})
