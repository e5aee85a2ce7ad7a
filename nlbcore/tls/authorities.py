"""The CAs of a listener, each once: recognised by name *and* key, whatever certificates say so."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.dn import dn
from nlbcore.engine.revoked import authority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

_BLANKS = re.compile("[ \t\n\v\f\r]+")
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA of the listener; two certificates with one name and one key are one CA.

    Attributes:
        name: `canonical` of its subject.
        subject: DER.
        key: SubjectPublicKeyInfo, DER.
        key_id: its subject key identifier; empty when it has none, or several.
        may_sign: whether its key usage allows it to sign lists.
        public_key: to verify lists with.
        text: its subject for people.
        certificates: the certificates that it has.
    """

    name: tuple[object, ...]
    subject: bytes
    key: bytes
    key_id: bytes
    may_sign: bool
    public_key: CertificateIssuerPublicKeyTypes
    text: str
    certificates: tuple[x509.Certificate, ...] = field(default=(), repr=False)


def authorities_of(certificates: Iterable[x509.Certificate]) -> list[Authority]:
    """The CAs of these certificates, each once: a renewed certificate of one is the same CA."""
    found: dict[tuple[object, ...], Authority] = {}
    for certificate in certificates:
        subject, key = authority(certificate.public_bytes(Encoding.DER))
        made = Authority(
            name=canonical(certificate.subject),
            subject=subject,
            key=key,
            key_id=_key_id(certificate),
            may_sign=_may_sign(certificate),
            public_key=certificate.public_key(),  # type: ignore[arg-type]
            text=dn(certificate.subject) or "the CA without a name",
            certificates=(certificate,),
        )
        same = found.get((made.name, made.key))
        if same is not None:
            made = Authority(
                same.name,
                same.subject,
                same.key,
                same.key_id if same.key_id == made.key_id else b"",
                same.may_sign or made.may_sign,
                same.public_key,
                same.text,
                (*same.certificates, certificate),
            )
        found[made.name, made.key] = made
    return list(found.values())


def canonical(name: x509.Name) -> tuple[object, ...]:
    """A name such that two are equal when OpenSSL takes them for one: without case and superfluous blanks (RFC 5280, 7.1)."""

    def value(attribute: x509.NameAttribute[str | bytes]) -> str | bytes:
        text = attribute.value
        return text if isinstance(text, bytes) else _BLANKS.sub(" ", text.translate(_SMALL)).strip(" ")

    return tuple(tuple((pair.oid.dotted_string, value(pair)) for pair in rdn) for rdn in name.rdns)


def _key_id(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return b""


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True
