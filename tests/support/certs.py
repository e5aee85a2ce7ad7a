"""A small certificate authority for tests: good certificates, and every kind of bad one.

Keys are P-256 unless asked otherwise (fast to make, fast to use). Whatever is made is written below one folder: `NAME.crt`
(leaf first, intermediates after it) and `NAME.key` (mode 0600). Nothing here uses nlb's own `pki`, so that a mistake there
cannot hide itself.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import itertools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.programs import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
UNKNOWN_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.99999.1")

_file_number = itertools.count(1)


def now() -> dt.datetime:
    """The time in UTC, whole seconds as certificates have them."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def new_key(kind: str = "ec") -> Key:
    """A new private key: "ec" (P-256), "ec-p384", or "rsa-BITS"."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ec-p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa-")))


def key_pem(key: Key) -> bytes:
    """PKCS#8 PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate) -> bytes:
    """PEM of one certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def write_key(path: Path, key: Key) -> None:
    """Write a private key with mode 0600 from the first moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key_pem(key))


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, in memory and on disk."""

    certificate: x509.Certificate
    key: Key
    path: Path  # PEM: this certificate, then the intermediates above it
    key_path: Path

    @property
    def sha256(self) -> str:
        """Lower-case hexadecimal fingerprint of the leaf."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def der(self) -> bytes:
        """The leaf's DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def common_name(self) -> str:
        """The leaf's common name."""
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def entry(self) -> dict[str, str]:
        """This certificate as an entry of `[[listeners.NAME.certificates]]`."""
        return {"certificate": str(self.path), "private_key": str(self.key_path)}


class Authority:
    """A certificate authority: a root, or an intermediate below another authority."""

    def __init__(
        self,
        folder: Path,
        name: str = "Test Root",
        *,
        issuer: Authority | None = None,
        key: str | Key = "ec",
        path_length: int | None = None,
        is_ca: bool = True,
        not_after: dt.datetime | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
        subject: x509.Name | None = None,
    ) -> None:
        self.folder = folder
        self.issuer = issuer
        self.key = new_key(key) if isinstance(key, str) else key
        self.name = _common_name(name) if subject is None else subject
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - dt.timedelta(days=2))
            .not_valid_after(not_after or now() + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None), critical=True)
            .add_extension(_usage(ca=is_ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        if issuer is not None:
            builder = builder.add_extension(_authority_key(issuer), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        self.certificate = builder.sign(signer.key, hashes.SHA256())
        stem = f"ca-{next(_file_number)}-{name.replace(' ', '-').lower()}"
        self.path = folder / f"{stem}.crt"
        self.path.write_bytes(pem(self.certificate))
        self.key_path = folder / f"{stem}.key"
        write_key(self.key_path, self.key)

    def chain(self) -> list[x509.Certificate]:
        """What a leaf of this authority sends beside itself: intermediates, never the root."""
        return [] if self.issuer is None else [self.certificate, *self.issuer.chain()]

    def intermediate(self, name: str = "Test Intermediate", **options: object) -> Authority:
        """A new authority below this one."""
        return Authority(self.folder, name, issuer=self, **options)  # type: ignore[arg-type]

    def issue(
        self,
        common_name: str,
        *,
        usages: Sequence[ObjectIdentifier] = (CLIENT,),
        names: Sequence[str] = (),
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        key: str | Key = "ec",
        signed_with: Key | None = None,
        critical_unknown: bool = False,
        is_ca: bool = False,
        subject: x509.Name | None = None,
        chain: Sequence[x509.Certificate] | None = None,
        extra_names: Sequence[x509.GeneralName] = (),
        serial: int | None = None,
        says_whose_key: bool = True,
        signs: bool = False,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Issued:
        """Issue a leaf.

        Args:
            common_name: subject common name, also used for the file names.
            usages: extended key usages, empty for no such extension.
            names: DNS names or IP addresses for the subjectAltName.
            not_before: default two days ago.
            not_after: default in 30 days.
            key: a kind for `new_key`, or a key.
            signed_with: sign with this key instead of the authority's: everything fits but the signature.
            critical_unknown: add a critical extension that nobody knows.
            is_ca: make it a CA certificate.
            subject: the whole subject instead of only the common name.
            chain: intermediates to send instead of the right ones.
            extra_names: more subjectAltName entries of any kind.
            serial: its serial number; default a random one.
            says_whose_key: with an authority key identifier.
            signs: its key usage is also that of a CA.
            extensions: more of them, not critical.
        """
        private = new_key(key) if isinstance(key, str) else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(_common_name(common_name) if subject is None else subject)
            .issuer_name(self.name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number() if serial is None else serial)
            .not_valid_before(not_before or now() - dt.timedelta(days=2))
            .not_valid_after(not_after or now() + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(_usage(ca=is_ca or signs), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        )
        if says_whose_key:
            builder = builder.add_extension(_authority_key(self), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        general = [_general_name(name) for name in names] + list(extra_names)
        if general:
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        if critical_unknown:
            builder = builder.add_extension(x509.UnrecognizedExtension(UNKNOWN_EXTENSION, b"\x05\x00"), critical=True)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(signed_with or self.key, hashes.SHA256())
        return self._write(common_name, certificate, private, self.chain() if chain is None else chain)

    def client(self, common_name: str = "client-1", **options: object) -> Issued:
        """A good client certificate, unless the options say otherwise."""
        return self.issue(common_name, **options)  # type: ignore[arg-type]

    def server(self, *names: str, **options: object) -> Issued:
        """A server certificate for the names, the first one in its common name too."""
        return self.issue(names[0], names=names, usages=(SERVER,), **options)  # type: ignore[arg-type]

    def openssl_client(self, common_name: str, *, digest: str = "sha256", version_1: bool = False) -> Issued:
        """A client certificate made by the openssl command: for SHA-1 and for X.509 v1, which `cryptography` refuses to make."""
        private = new_key("rsa-2048")
        base = self.folder / f"openssl-{next(_file_number)}"
        write_key(base.with_suffix(".key"), private)
        subject = f"/CN={common_name}"
        run("openssl", "req", "-new", "-key", f"{base}.key", "-out", f"{base}.csr", "-subj", subject)
        extensions = base.with_suffix(".ext")
        extensions.write_text("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n")
        command = ["openssl", "x509", "-req", "-in", f"{base}.csr", "-CA", str(self.path), "-CAkey", str(self.key_path)]
        command += ["-set_serial", str(x509.random_serial_number()), "-days", "30", f"-{digest}", "-out", f"{base}.crt"]
        run(*command, *([] if version_1 else ["-extfile", str(extensions)]))
        certificate = x509.load_pem_x509_certificate(base.with_suffix(".crt").read_bytes())
        assert (certificate.version is x509.Version.v1) is version_1
        return self._write(common_name, certificate, private, self.chain())

    def _write(
        self, common_name: str, certificate: x509.Certificate, key: Key, chain: Sequence[x509.Certificate]
    ) -> Issued:
        stem = f"{next(_file_number)}-{''.join(c if c.isalnum() or c in '.-' else '_' for c in common_name)}"
        path, key_path = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        path.write_bytes(b"".join(pem(one) for one in (certificate, *chain)))
        write_key(key_path, key)
        return Issued(certificate, key, path, key_path)


class Pki:
    """The standard set most tests need: one root, an intermediate, a server certificate and a good client; and the bad ones, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Authority(folder)
        self.intermediate = self.root.intermediate()
        self.other = Authority(folder, "Other Root")
        self.server = self.root.server("www.example.com", "localhost", "127.0.0.1", "::1")
        self.client = self.root.client("client-1", names=["client-1.corp.example"])
        self._bad: dict[str, Issued] = {}

    def bad_client(self, kind: str) -> Issued:
        """A client certificate that must be refused, by kind (see `BAD_CLIENTS`); the same object every time."""
        if kind not in self._bad:
            self._bad[kind] = BAD_CLIENTS[kind][1](self)
        return self._bad[kind]

    def deep_client(self, common_name: str, intermediates: int) -> Issued:
        """A client certificate below so many intermediates under the root."""
        authority = self.root
        for number in range(intermediates):
            authority = authority.intermediate(f"{common_name} level {number + 1}")
        return authority.client(common_name)


def _bad_signature(pki: Pki) -> Issued:
    return pki.root.client("forged", signed_with=new_key())


def _same_name(pki: Pki) -> Issued:
    """Issued by another authority that calls itself by our root's name (its key identifier tells them apart)."""
    return Authority(pki.folder, "Test Root").client("impostor")


def _weak_intermediate(pki: Pki) -> Issued:
    return pki.root.intermediate("Weak Intermediate", key="rsa-1024").client("under-weak")


def alternative_names(*entries: tuple[int, bytes]) -> x509.ExtensionType:
    """A subjectAltName of entries by their tags, whatever they are; each shorter than 128 bytes."""
    inside = b"".join(bytes([tag, len(value)]) + value for tag, value in entries)
    return x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes([0x30, len(inside)]) + inside)


def without_key(issued: Issued) -> Issued:
    """A thief's: the certificate, and a P-256 key that claims to be the one it names but signs with another."""

    def point(key: object) -> bytes:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    other = ec.generate_private_key(ec.SECP256R1())
    der = other.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert point(other.public_key()) in der
    der = der.replace(point(other.public_key()), point(issued.certificate.public_key()))
    path = issued.key_path.with_suffix(".stolen")
    text = base64.encodebytes(der).decode()
    path.write_text(f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n")
    return replace(issued, key_path=path)


# kind -> (the one word of the contract, how to make it)
BAD_CLIENTS = {
    "unknown_ca": ("unknown_ca", lambda p: p.other.client("stranger")),
    "same_name_ca": ("unknown_ca", _same_name),
    "missing_intermediate": ("unknown_ca", lambda p: p.intermediate.client("orphan", chain=())),
    "expired": (
        "expired",
        lambda p: p.root.client("too-late", not_before=now() - dt.timedelta(9), not_after=now() - dt.timedelta(1)),
    ),
    "not_yet_valid": ("not_yet_valid", lambda p: p.root.client("too-early", not_before=now() + dt.timedelta(1))),
    "wrong_purpose": ("wrong_purpose", lambda p: p.root.client("a-server", usages=(SERVER,))),
    "bad_signature": ("bad_signature", _bad_signature),
    "chain_too_long": ("chain_too_long", lambda p: p.deep_client("deep", 5)),
    "weak_rsa": ("weak_key", lambda p: p.root.client("weak-rsa", key="rsa-1024")),
    "weak_digest": ("weak_key", lambda p: p.root.openssl_client("weak-digest", digest="sha1")),
    "weak_intermediate": ("weak_key", _weak_intermediate),
    "critical_extension": ("bad_certificate", lambda p: p.root.client("odd", critical_unknown=True)),
}


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
