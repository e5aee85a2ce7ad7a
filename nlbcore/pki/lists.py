"""The lists of revoked certificates (CRLs, RFC 5280 section 5), one for each of the two authorities, in three files.

    ca.crl             both lists, PEM: what a listener's `crl` names
    intermediate.crl   the intermediate's, DER: what is served at a distribution point (RFC 5280, 4.2.1.13)
    root.crl           the root's, DER

The three get their names together. Without the root's key its list stays as it is, for as long as it is good.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import index, issue, keys, store
from nlbcore.pki.errors import PkiError
from nlbcore.pki.hierarchy import INTERMEDIATE, ROOT, Hierarchy
from nlbcore.pki.index import Entry, Index, readable
from nlbcore.pki.issue import Signer, Window
from nlbcore.pki.store import Output
from nlbcore.pki.words import UNSPECIFIED

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
DER_FILES = {INTERMEDIATE: store.INTERMEDIATE_CRL, ROOT: store.ROOT_CRL}


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
    written: bool = True
    """These are new ones; if not, those that were there are good for longer than was asked."""

    def as_dict(self) -> dict[str, object]:
        return {
            "file": str(self.path),
            "number": self.number,
            "next_update": index.stamp(self.next_update),
            "revoked": self.revoked,
            "written": self.written,
            "warning": self.warning or None,
        }


@dataclass(frozen=True)
class Part:
    """One authority's list; none if there is none and its key is not there."""

    made: x509.CertificateRevocationList | None
    remark: str = ""
    current: bool = True

    @property
    def next_update(self) -> dt.datetime | None:
        return None if self.made is None else self.made.next_update_utc

    def encoded(self, encoding: Encoding) -> bytes:
        return b"" if self.made is None else self.made.public_bytes(encoding)


def write(hierarchy: Hierarchy, journal: Index, changed: list[Entry], days: int) -> Crl:
    """Sign the lists with the certificates that `changed` takes back, and without those that it gives back.

    It is all noted in the index before the files get their names.
    """
    folder = hierarchy.folder
    path = folder / store.CRL
    there = lists(path)
    # A verifier may know a list that is there, even where the index has been lost.
    number = max([journal.crl_number, *map(number_of, there)]) + 1
    entries = journal.entries | {entry.serial: entry for entry in changed}
    own: dict[str, list[Entry]] = {INTERMEDIATE: [], ROOT: []}
    for entry in entries.values():
        if entry.revoked_at is not None:
            own[entry.issuer].append(entry)
    now = index.now()
    validity = issue.window(now, days, hierarchy.intermediate)
    parts = {
        INTERMEDIATE: Part(sign(hierarchy.signer(INTERMEDIATE), own[INTERMEDIATE], number, validity)),
        ROOT: _root_list(hierarchy, there, own[ROOT], number, days, needed=any(one.issuer == ROOT for one in changed)),
    }
    updates = {issuer: part.next_update for issuer, part in parts.items() if part.next_update is not None}
    outputs = [Output(path, b"".join(part.encoded(Encoding.PEM) for part in parts.values()))]
    outputs += [
        Output(folder / DER_FILES[issuer], part.encoded(Encoding.DER))
        for issuer, part in parts.items()
        if part.made is not None
    ]
    with store.staged(outputs, replace=True) as publish, journal.undone_on_failure():
        journal.listed(changed, number, updates)
        publish()
    due = min(end for end in updates.values() if end > now)
    revoked = sum(map(len, own.values()))
    return Crl(path, number, due, revoked, parts[ROOT].remark, complete=parts[ROOT].current)


def fresh(hierarchy: Hierarchy, journal: Index, older: dt.timedelta) -> Crl | None:
    """The lists that are there, if all are younger than `older` and not due within it; None if new ones are needed.

    Without the root's key its list only has to be good: nobody could sign another.
    """
    now = index.now()
    there = lists(hierarchy.folder / store.CRL)
    updates = []
    for issuer, file in DER_FILES.items():
        own = _newest(there, hierarchy.certificate(issuer))
        if own is None or own.next_update_utc is None or not (hierarchy.folder / file).exists():
            return None
        left = own.next_update_utc - now
        if issuer == ROOT and not hierarchy.has_key(ROOT):
            if left <= dt.timedelta():
                return None
        elif (
            number_of(own) != journal.crl_number or left <= older or now - own.last_update_utc - issue.BACKDATE >= older
        ):
            return None
        updates.append(own.next_update_utc)
    revoked = sum(entry.revoked_at is not None for entry in journal.entries.values())
    return Crl(hierarchy.folder / store.CRL, journal.crl_number, min(updates), revoked, written=False)


def sign(signer: Signer, entries: Iterable[Entry], number: int, validity: Window) -> x509.CertificateRevocationList:
    """One authority's list."""
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
    return builder.sign(signer.key, keys.digest(signer.key))


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
    newest = _newest(there, authority)
    if newest is None:
        return Part(None, "there is no list of the root", current=False)
    end = newest.next_update_utc
    assert end is not None
    if end <= now:
        return Part(newest, f"the root's list is overdue since {readable(end)}", current=False)
    missing = [entry for entry in entries if newest.get_revoked_certificate_by_serial_number(entry.serial) is None]
    if missing:
        return Part(newest, f"the root's list does not have the revoked {missing[0].name}", current=False)
    days = (end - now).days
    good = f"{days} days" if days > 1 else "one day" if days else "less than a day"
    return Part(newest, f"the root's list stays as it is, good until {readable(end)} ({good})")


def _root_list(
    hierarchy: Hierarchy,
    there: list[x509.CertificateRevocationList],
    entries: list[Entry],
    number: int,
    days: int,
    *,
    needed: bool,
) -> Part:
    """The root's list: a new one, or without its key the one from before unless a new one is `needed`."""
    try:
        signer = hierarchy.signer(ROOT)
    except PkiError as error:
        if needed:
            text = f"{error}: only it can put the intermediate on the root's list or take it off; nothing has been done"
            raise PkiError(text, error.exit_code) from None
        part = kept(there, hierarchy.root, entries, index.now())
        remark = f"{error}: {part.remark}"
        if not part.current:
            remark += (
                "; the intermediate's has been written, which is not enough for who checks the whole chain:"
                f" put {store.ROOT_KEY} back and run `nlb ca crl {hierarchy.folder}`"
            )
        return replace(part, remark=remark)
    return Part(sign(signer, entries, number, issue.window(index.now(), days, hierarchy.root)))


def _newest(
    there: Iterable[x509.CertificateRevocationList], authority: x509.Certificate
) -> x509.CertificateRevocationList | None:
    own = [one for one in there if one.next_update_utc is not None and _signed_by(authority, one)]
    return max(own, key=lambda one: one.last_update_utc, default=None)


def _signed_by(authority: x509.Certificate, one: x509.CertificateRevocationList) -> bool:
    key = authority.public_key()
    return one.issuer == authority.subject and isinstance(key, keys.PublicKey) and one.is_signature_valid(key)


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    assert entry.revoked_at is not None
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.revoked_at)
    if entry.reason != UNSPECIFIED:  # RFC 5280, 5.3.1: rather no reason than this one
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason)), critical=False)
    return builder.build()
