"""What can be said about a certificate without a connection: dates, purposes, chain, names."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nlbcore.dn import dn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.config.finding import Severity

    Remark = tuple[Severity, str]

MIN_RSA_BITS = 2048
MIN_EC_BITS = 224
"""Weaker keys are refused in client certificates, and so in the CAs above them."""

Extension = TypeVar("Extension", bound=x509.ExtensionType)


def server_remarks(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[Remark]:
    """A server certificate: may it serve, is it in date, has it names?"""
    yield from _dates(certificate, now)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *purposes
    }:
        yield (
            "error",
            "not a server certificate: its extended key usage lacks serverAuth, so every client would refuse it",
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield "warning", "its key usage lacks digitalSignature: clients refuse it, but for RSA key exchange in TLS 1.2"
    if _extension(certificate, x509.SubjectAlternativeName) is None:
        yield "warning", "it has no subjectAltName: browsers and most clients refuse it, they ignore the common name"


def chain_remarks(chain: list[x509.Certificate], now: datetime.datetime) -> Iterator[Remark]:
    """What follows the server certificate in its file: does each one vouch for the one before?"""
    for number, (below, above) in enumerate(pairwise(chain), 2):
        if not _issued(above, below):
            yield (
                "warning",
                f"certificate {number} ({_subject(above)}) has not issued the one before it: clients may not find the chain",
            )
        for severity, text in _dates(above, now):
            yield severity, f"certificate {number}: {text}"


def authority_remarks(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[Remark]:
    """A CA that client certificates are checked against: is it one, for that purpose, in date and strong enough?"""
    reason = _not_a_ca(certificate)
    if reason:
        yield "error", f"{_subject(certificate)} is not a CA: {reason}"
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *purposes
    }:
        yield "warning", "its extended key usage lacks clientAuth: every client certificate under it is refused"
    key = certificate.public_key()
    bits = key.key_size if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else None
    least = MIN_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else MIN_EC_BITS
    if bits is not None and bits < least:
        yield "warning", f"its key has {bits} bits only: every client certificate under it is refused (weak_key)"
    yield from _dates(certificate, now)


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names that a client may ask for, lower case: those of subjectAltName, else the common name."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is not None:
        return tuple(dict.fromkeys(name.lower() for name in names.get_values_for_type(x509.DNSName)))
    return tuple(str(name.value).lower() for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def key_type(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    known = (
        (rsa.RSAPublicKey, "RSA"),
        (ec.EllipticCurvePublicKey, "EC"),
        (ed25519.Ed25519PublicKey, "Ed25519"),
        (ed448.Ed448PublicKey, "Ed448"),
    )
    return next((name for kind, name in known if isinstance(key, kind)), type(key).__name__.removesuffix("PublicKey"))


def _dates(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[Remark]:
    if certificate.not_valid_after_utc < now:
        yield "warning", f"expired on {_moment(certificate.not_valid_after_utc)}"
    if certificate.not_valid_before_utc > now:
        yield "warning", f"not valid before {_moment(certificate.not_valid_before_utc)}"


def _moment(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _not_a_ca(certificate: x509.Certificate) -> str:
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None:
        # A version 1 root has no extensions at all; OpenSSL takes it.
        first = certificate.version is x509.Version.v1 and _issued(certificate, certificate)
        return "" if first else "it has no basicConstraints"
    if not constraints.ca:
        return "its basicConstraints say CA:FALSE"
    return "its key usage lacks keyCertSign" if usage is not None and not usage.key_cert_sign else ""


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _subject(certificate: x509.Certificate) -> str:
    return dn(certificate.subject) or "no subject"


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
