"""Taking certificates back: which one is meant, and the lists (CRLs, RFC 5280 section 5) that tell verifiers."""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import keys
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import Entry, Index, fingerprint, readable
from nlbcore.pki.issue import Signer, Window
from nlbcore.pki.store import read
from nlbcore.pki.words import REASONS, UNSPECIFIED

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class Crl:
    """The file with the newest lists, one for each authority that issues."""

    path: Path
    number: int
    next_update: dt.datetime  # the earliest of those that are not overdue
    revoked: int  # certificates on them
    warning: str = ""
    complete: bool = True
    """Verifiers that check the whole chain find what they need; if not, the warning says what to do."""


@dataclass(frozen=True)
class Part:
    """One authority's list in the file; empty if there is none and its key is not there."""

    pem: bytes
    next_update: dt.datetime | None
    remark: str = ""
    current: bool = True


def find(index: Index, target: str) -> list[Entry]:
    """The live certificates that a name, a serial number (hexadecimal) or a certificate file means.

    A name means all certificates of that name that have not been revoked.

    Raises:
        PkiError: none is meant, or it is revoked already.
    """
    found = [entry for entry in index.entries.values() if entry.name == target] or _of_serial(index, target)
    if not found and Path(target).is_file():
        found = [_of_file(index, Path(target))]
    if found:
        return _live(found, target)
    near = difflib.get_close_matches(target, {entry.name for entry in index.entries.values()}, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    raise PkiError(f'"{target}" is no name and no serial number in {index.path}, and no file{hint}')


def crl(signer: Signer, entries: Iterable[Entry], number: int, validity: Window) -> bytes:
    """One authority's list, PEM."""
    # Handed over whole: add_revoked_certificate copies the list each time, which is too slow from some thousands on.
    revoked = [_revoked(entry) for entry in sorted(entries, key=lambda entry: entry.serial)]
    builder = (
        x509.CertificateRevocationListBuilder(revoked_certificates=revoked)
        .issuer_name(signer.certificate.subject)
        .last_update(validity.begin)
        .next_update(validity.end)
        .add_extension(signer.key_identifier, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    return builder.sign(signer.key, keys.digest(signer.key)).public_bytes(Encoding.PEM)


def lists(path: Path) -> list[x509.CertificateRevocationList]:
    """The lists in a file, as far as it can be read."""
    try:
        found = _PEM.findall(path.read_bytes())
    except OSError:
        return []
    made = []
    for pem in found:
        with contextlib.suppress(ValueError):
            made.append(x509.load_pem_x509_crl(pem))
    return made


def number_of(made: x509.CertificateRevocationList) -> int:
    try:
        return made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound):
        return 0


def kept(
    there: Iterable[x509.CertificateRevocationList],
    authority: x509.Certificate,
    entries: Iterable[Entry],
    now: dt.datetime,
) -> Part:
    """The newest of the lists that the authority has signed, for when its key is not there to sign another.

    Args:
        there: lists to choose from
        authority: whose list is meant
        entries: what has to be on it
        now: what it is overdue by
    """
    own = [one for one in there if one.next_update_utc is not None and _signed_by(authority, one)]
    if not own:
        return Part(b"", None, "there is no list of the root", current=False)
    newest = max(own, key=lambda one: one.last_update_utc)
    pem, end = newest.public_bytes(Encoding.PEM), newest.next_update_utc
    assert end is not None
    if end <= now:
        return Part(pem, end, f"the root's list is overdue since {readable(end)}", current=False)
    missing = [entry for entry in entries if newest.get_revoked_certificate_by_serial_number(entry.serial) is None]
    if missing:
        return Part(pem, end, f"the root's list does not have the revoked {missing[0].name}", current=False)
    days = (end - now).days
    good = f"{days} days" if days > 1 else "one day" if days else "less than a day"
    return Part(pem, end, f"the root's list stays as it is, good until {readable(end)} ({good})")


def check_reason(reason: str) -> None:
    if reason not in REASONS:
        raise BadValue("reason", reason, f"one of {', '.join(REASONS)} is meant")


def _signed_by(authority: x509.Certificate, one: x509.CertificateRevocationList) -> bool:
    key = authority.public_key()
    return one.issuer == authority.subject and isinstance(key, keys.PublicKey) and one.is_signature_valid(key)


def _live(found: list[Entry], target: str) -> list[Entry]:
    live = [entry for entry in found if entry.revoked_at is None]
    if not live:
        since = max(entry.revoked_at for entry in found if entry.revoked_at)
        hint = "`nlb ca crl` writes the list again"
        raise PkiError(f"{target} has been revoked already, on {readable(since)}; {hint}")
    return live


def _of_serial(index: Index, text: str) -> list[Entry]:
    try:
        serial = int(text.replace(":", ""), 16)
    except ValueError:
        return []
    return [index.entries[serial]] if serial in index.entries else []


def _of_file(index: Index, path: Path) -> Entry:
    try:
        certificate = x509.load_pem_x509_certificate(read(path))
    except ValueError:
        raise PkiError(f"{path} is no PEM certificate") from None
    entry = index.entries.get(certificate.serial_number)
    if entry is None or entry.sha256 != fingerprint(certificate):
        raise PkiError(f"{path} is not in {index.path}: this authority has not issued it")
    return entry


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    assert entry.revoked_at is not None
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.revoked_at)
    if entry.reason != UNSPECIFIED:  # RFC 5280, 5.3.1: rather no reason than this one
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason)), critical=False)
    return builder.build()
