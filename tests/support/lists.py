"""Revocation lists for tests: good ones, and every kind that must be refused."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certs import Issued, Key, now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_file_number = itertools.count(1)

Revoked = Issued | int | x509.RevokedCertificate


class Authority(Protocol):
    """Whoever may sign a list."""

    @property
    def name(self) -> x509.Name: ...
    @property
    def key(self) -> Key: ...


def revocation_list(
    authority: Authority,
    *revoked: Revoked,
    number: int | None = 1,
    this_update: dt.datetime | None = None,
    next_update: dt.datetime | None = None,
    signed_with: Key | None = None,
    issuer: x509.Name | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> x509.CertificateRevocationList:
    """A list of an authority.

    Args:
        authority: who signs it.
        revoked: certificates, serial numbers, or ready entries.
        number: cRLNumber, or none.
        this_update: default an hour ago.
        next_update: default in a week.
        signed_with: another key than the authority's.
        issuer: another name than the authority's.
        extensions: more extensions, each with whether it is critical.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer or authority.name)
        .last_update(this_update or now() - dt.timedelta(hours=1))
        .next_update(next_update or now() + dt.timedelta(days=7))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for one in revoked:
        builder = builder.add_revoked_certificate(entry(one))
    return builder.sign(signed_with or authority.key, hashes.SHA256())


def entry(revoked: Revoked, *extensions: tuple[x509.ExtensionType, bool]) -> x509.RevokedCertificate:
    """An entry of a list."""
    if isinstance(revoked, x509.RevokedCertificate):
        return revoked
    serial = revoked if isinstance(revoked, int) else revoked.certificate.serial_number
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now() - dt.timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build()


def overdue(authority: Authority, *revoked: Revoked, number: int | None = 1) -> x509.CertificateRevocationList:
    """A list that should have been replaced an hour ago."""
    return revocation_list(
        authority,
        *revoked,
        number=number,
        this_update=now() - dt.timedelta(days=1),
        next_update=now() - dt.timedelta(hours=1),
    )


def write_lists(
    folder: Path, *lists: x509.CertificateRevocationList, encoding: Encoding = Encoding.PEM, text: bytes = b""
) -> Path:
    """A file with these lists, with `text` before each of them."""
    path = folder / f"lists-{next(_file_number)}.crl"
    path.write_bytes(b"".join(text + one.public_bytes(encoding) for one in lists))
    return path
