"""Revocation lists: read, checked and compiled into the one table that the engine searches.

OpenSSL is not given the lists: it would verify each one's signature in every handshake (51 ms with a million entries).
All that can be known of a list is known when it is loaded - who signed it, what it covers, which one of two is newer -
but not whether it is overdue: that is compared in every handshake, so that a list becomes overdue without a reload.

A list counts for the CA of `ca` that signed it, recognised by name *and* key. What is not a complete list of all
certificates of one CA is refused: indirect lists (other issuers' certificates), delta lists (changes only), and lists
that an issuing distribution point limits to some certificates or reasons.

The table, drawn at the top of ``engine/revoked.pyx``, has one entry for each CA of the listener, with or without a list:

    header | entry of CA 1 | entry of CA 2 | ... | names, keys and key identifiers | records of CA 1 | records of CA 2 ...

It contains no pointer, so that one copy of it can serve all workers.

With ``crl_scope = "chain"`` each entry also says how that CA stands by the lists of the others: see ``tls/standing``.
"""

from __future__ import annotations

import datetime
import hashlib
import struct
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from nlbcore.dn import dn
from nlbcore.engine.revoked import collect
from nlbcore.tls.authorities import authorities_of, canonical
from nlbcore.tls.pem import BadFile
from nlbcore.tls.standing import MISSING, NEVER, REVOKED, SERIAL, Standing, standings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from nlbcore.config.finding import Severity
    from nlbcore.tls.authorities import Authority

    Remark = tuple[int | None, Severity, str, str]  # number of the file, severity, sentence, hint

MAGIC = b"NLB-CRLs"
VERSION = 3
_HEADER = struct.Struct("=8sIIQQ")
_ENTRY = struct.Struct("=qqQIIQQQIIIIII")

_HARMLESS = (
    x509.AuthorityKeyIdentifier,
    x509.CRLNumber,
    x509.IssuerAlternativeName,
    x509.AuthorityInformationAccess,
    x509.IssuingDistributionPoint,  # looked into
)
"""Extensions that may be critical."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file with lists: `read` gives the DER of each, or raises BadFile."""

    name: Path
    read: Callable[[], list[bytes]]


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list that has been checked.

    Attributes:
        label: how findings call it.
        file: the number of its file.
        issuer: the index of its CA in `authorities_of()`.
        number: its cRLNumber; None in version 1.
        this_update: when it was issued.
        next_update: when it becomes overdue; None for never.
        digest: SHA-256 of the list.
        records: the revoked serial numbers as `engine.revoked.collect` gives them.
    """

    label: str
    file: int
    issuer: int
    number: int | None
    this_update: datetime.datetime
    next_update: datetime.datetime | None
    digest: bytes
    records: bytes = field(repr=False)

    @property
    def age(self) -> tuple[int, datetime.datetime]:
        """What says which of two lists is newer."""
        return -1 if self.number is None else self.number, self.this_update


@dataclass(frozen=True, slots=True)
class InForce:
    """A list that counts: whose it is, for people, when it becomes overdue (None for never), and which one it is."""

    issuer: str
    next_update: datetime.datetime | None
    number: int | None = None
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Revocations:
    """`table` is None if there is an error among the remarks."""

    table: bytes | None = field(repr=False)
    remarks: tuple[Remark, ...]
    in_force: tuple[InForce, ...] = ()


def compile_lists(
    sources: Sequence[Source],
    certificates: Iterable[x509.Certificate],
    now: datetime.datetime,
    *,
    overdue_accepted: bool,
    chain: bool = False,
    at: datetime.datetime | None = None,
) -> Revocations:
    """Read and check all lists of a listener, and compile those that count.

    Args:
        sources: the files in the order of the configuration.
        certificates: the listener's `ca`.
        now: UTC.
        overdue_accepted: only for the wording of findings.
        chain: the CAs are looked up too.
        at: when the CAs' certificates are judged by their dates; default now. The lists are those of now.
    """
    authorities = authorities_of(certificates)
    remarks: list[Remark] = []
    lists: list[RevocationList] = []
    for file, source in enumerate(sources):
        try:
            found = source.read()
        except BadFile as error:
            remarks.append((file, "error", f"{source.name}: {error}", error.hint))
            continue
        for number, der in enumerate(found, 1):
            label = f"list {number} of {source.name}" if len(found) > 1 else str(source.name)
            try:
                lists.append(_check(der, label, file, authorities, now))
            except BadFile as error:
                remarks.append((file, "error", f"{label}: {error}", error.hint))
    chosen = list(_choose(lists, remarks))
    remarks += _dates(chosen, now, overdue_accepted=overdue_accepted)
    if any(severity == "error" for _, severity, _, _ in remarks):
        return Revocations(None, tuple(remarks))
    with_list = {one.issuer: one for one in chosen}
    remarks += [
        (None, "warning", f"there is no list of {one.text}: its clients are refused (crl_missing)", "")
        for index, one in enumerate(authorities)
        if index not in with_list
    ]
    stand = standings(authorities, with_list, at or now) if chain else [Standing()] * len(authorities)
    remarks += _standing(authorities, stand)
    in_force = tuple(InForce(authorities[one.issuer].text, one.next_update, one.number, one.digest) for one in chosen)
    return Revocations(compile_table(chosen, authorities, stand), tuple(remarks), in_force)


def compile_table(
    lists: Iterable[RevocationList], authorities: Sequence[Authority], stand: Sequence[Standing] = ()
) -> bytes:
    """The table of at most one list for each CA, and of how the CAs stand themselves; see the top."""
    by_issuer = {one.issuer: one for one in lists}
    entries, texts, records = [], [], []
    at = _HEADER.size + len(authorities) * _ENTRY.size
    text_size = sum(len(one.subject) + len(one.key) + len(one.key_id) for one in authorities)
    records_at = at + text_size
    for index, issuer in enumerate(authorities):
        one = by_issuer.get(index)
        places = (at, at + len(issuer.subject), at + len(issuer.subject) + len(issuer.key))
        sizes = (len(issuer.subject), len(issuer.key), len(issuer.key_id))
        due = NEVER if one is None or one.next_update is None else int(one.next_update.timestamp())
        mine = b"" if one is None else one.records
        itself = stand[index] if stand else Standing()
        count = len(mine) // SERIAL
        head = (due, itself.due, records_at, count, one is not None)
        entries.append(_ENTRY.pack(*head, *places, *sizes, itself.fault, itself.about, 0))
        texts += [issuer.subject, issuer.key, issuer.key_id]
        records.append(mine)
        at += sum(sizes)
        records_at += len(mine)
    header = _HEADER.pack(MAGIC, VERSION, len(authorities), records_at, 0)
    return b"".join([header, *entries, *texts, *records])


def _check(
    der: bytes, label: str, file: int, authorities: Sequence[Authority], now: datetime.datetime
) -> RevocationList:
    """One list: everything about it that does not depend on other lists.

    Raises:
        BadFile: it cannot be used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            crl = x509.load_der_x509_crl(der)
            extensions = list(crl.extensions)
            issuer, this_update, next_update = crl.issuer, crl.last_update_utc, crl.next_update_utc
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
            raise BadFile("the revocation list is damaged or of a kind that cannot be read") from None
    for extension in extensions:
        _permit(extension)
    index = _signer(crl, issuer, authorities)
    if this_update > now:
        raise BadFile(f"its thisUpdate is in the future: {_moment(this_update)}", "is the clock right?")
    try:
        records = collect(der)
    except ValueError as error:
        raise BadFile(str(error)) from None
    number = next((one.value.crl_number for one in extensions if isinstance(one.value, x509.CRLNumber)), None)
    return RevocationList(label, file, index, number, this_update, next_update, hashlib.sha256(der).digest(), records)


def _permit(extension: x509.Extension[x509.ExtensionType]) -> None:
    """Refuse what makes a list other than complete, and what nobody here understands."""
    value = extension.value
    if isinstance(value, x509.DeltaCRLIndicator):
        raise BadFile("it is a delta list: only the changes since another one", "give the complete list")
    if isinstance(value, x509.IssuingDistributionPoint):
        # only_contains_user_certs is no limit here: a CA's certificate is never a client's.
        if value.indirect_crl:
            raise BadFile("it is an indirect list: its certificates may be other issuers'")
        if value.only_contains_ca_certs or value.only_contains_attribute_certs:
            raise BadFile("it covers no client certificates: its distribution point excludes them")
        if value.only_some_reasons:
            raise BadFile("it covers some reasons for revocation only", "give the complete list")
        if value.full_name or value.relative_name:
            raise BadFile("it covers the certificates of one distribution point only", "give the complete list")
    elif extension.critical and not isinstance(value, _HARMLESS):
        raise BadFile(f"it has a critical extension that is not known: {extension.oid.dotted_string}")


def _signer(crl: x509.CertificateRevocationList, issuer: x509.Name, authorities: Sequence[Authority]) -> int:
    """The index of the CA that has signed the list.

    Raises:
        BadFile: none of them has, or it may not.
    """
    text = dn(issuer) or "a CA without a name"
    name = canonical(issuer)
    named = [index for index, one in enumerate(authorities) if one.name == name]
    if not named:
        raise BadFile(f"it is the list of {text}, which is no CA of `ca`", "add that CA's certificate to `ca`")
    for index in named:
        try:
            signed = crl.is_signature_valid(authorities[index].public_key)
        except (UnsupportedAlgorithm, TypeError, ValueError):
            signed = False
        if signed:
            if not authorities[index].may_sign:
                raise BadFile(f"{text} may not sign revocation lists: its key usage lacks cRLSign")
            return index
    raise BadFile(
        f"its signature is not that of {text} in `ca`",
        "it is damaged, or the list of another CA with that name: add its certificate to `ca`",
    )


def _choose(lists: Iterable[RevocationList], remarks: list[Remark]) -> Iterator[RevocationList]:
    """Of each CA's lists the newest one; what is wrong with the others goes to `remarks`."""
    by_issuer: dict[int, RevocationList] = {}
    for one in lists:
        other = by_issuer.setdefault(one.issuer, one)
        if other.digest == one.digest:
            continue
        older, newer = sorted((other, one), key=lambda item: item.age)
        if one.number == other.number and (one.number is not None or one.this_update == other.this_update):
            text = f"{one.label}: differs from {other.label}, but both are number {one.number}"
            if one.number is None:
                text = f"{one.label}: differs from {other.label}, but both are without a number and of the same time"
            remarks.append((one.file, "error", text, "keep the one that the CA says is in force"))
        else:
            remarks.append((older.file, "warning", f"{older.label}: {newer.label} is newer, so it is not used", ""))
        by_issuer[one.issuer] = newer
    yield from by_issuer.values()


def _dates(lists: Iterable[RevocationList], now: datetime.datetime, *, overdue_accepted: bool) -> Iterator[Remark]:
    for one in lists:
        if one.next_update is None:
            yield one.file, "warning", f"{one.label}: it has no nextUpdate, so it never becomes overdue", ""
        elif one.next_update < now:
            does = "it is used all the same" if overdue_accepted else "its CA's clients are refused (crl_overdue)"
            yield one.file, "warning", f"{one.label}: overdue since {_moment(one.next_update)}: {does}", ""


def _standing(authorities: Sequence[Authority], stand: Sequence[Standing]) -> Iterator[Remark]:
    for one, itself in zip(authorities, stand, strict=True):
        if itself.fault == REVOKED:
            yield None, "warning", f"the list of {itself.by} revokes {one.text}: its clients are refused (revoked)", ""
        elif itself.fault == MISSING:
            text = (
                f"{one.text} stands below {itself.by}, of which there is no list: its clients are refused (crl_missing)"
            )
            yield None, "warning", text, ""


def _moment(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
