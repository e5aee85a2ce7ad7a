"""What a reload changes in certificates and revocation lists, in words an operator reads after `nlb reload`.

Contents are compared, not files: a certificate that was written again with the same bytes is no change, one behind the same
name with other bytes is. Listeners that come or go are told by ``config/diff``, and nothing of theirs here.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nlbcore.config.finding import key_text
from nlbcore.dn import dn

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator, Sequence

    from nlbcore.tls.material import ListenerMaterial, Material, ServerCertificate
    from nlbcore.tls.revocation import InForce

SHOWN = 10
"""Certificates that are named; the others are counted."""


def changes(old: Material, new: Material) -> list[str]:
    """One line for each certificate, client CA and revocation list that is another one, listener by listener."""
    return [
        f"{key_text(('listeners', name))}: {text}"
        for name, listener in new.listeners.items()
        if name in old.listeners
        for text in _listener(old.listeners[name], listener)
    ]


def _listener(old: ListenerMaterial, new: ListenerMaterial) -> Iterator[str]:
    yield from _certificates(old.certificates, new.certificates)
    yield from _authorities(old.ca, new.ca)
    yield from _lists(old.lists, new.lists)


def _certificates(old: Sequence[ServerCertificate], new: Sequence[ServerCertificate]) -> Iterator[str]:
    """By file: the same name is the same certificate, renewed or not."""
    before = {one.path: one for one in old}
    after = {one.path: one for one in new}
    known = [path for path in after if path in before]
    changed = [text for path in known for text in _renewed(before[path], after[path])]
    yield from _shortened(changed, "certificates changed")
    added = [f"certificate {path} added, {_until(one.not_after)}" for path, one in after.items() if path not in before]
    yield from _shortened(added, "certificates added")
    removed = [f"certificate {path} removed" for path in before if path not in after]
    yield from _shortened(removed, "certificates removed")
    if old and new and old[0].path != new[0].path:
        yield f"the default certificate is {new[0].path}, was {old[0].path}"
    elif known != [path for path in before if path in after]:
        yield "certificates in another order"


def _renewed(old: ServerCertificate, new: ServerCertificate) -> Iterator[str]:
    if old.chain[0] != new.chain[0]:
        what = "renewed" if new.not_after > old.not_after else "replaced"
        key = "" if old.key == new.key else ", key replaced"
        yield f"certificate {new.path} {what}{key}, {_until(new.not_after)}{_names(old.names, new.names)}"
    elif old.chain != new.chain:
        yield f"certificate {new.path} has another chain behind it"


def _names(old: Iterable[str], new: Iterable[str]) -> str:
    """Names that it is good for now, and no longer."""
    gained, lost = sorted({*new} - {*old}), sorted({*old} - {*new})
    return "".join(
        f", {what} {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for what, names in (("now also for", gained), ("no longer for", lost))
        if names
    )


def _authorities(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[str]:
    """A CA is its name and its key: another certificate for both is a renewal."""
    before, after = _parsed(old, {*new}), _parsed(new, {*old})
    texts = [
        f"client CA {name} {'renewed' if (name, key) in before else 'added'}, {_until(end)}"
        for (name, key), end in after.items()
    ]
    yield from _shortened(texts, "client CAs added or renewed")
    removed = [f"client CA {name} removed" for name, key in before if (name, key) not in after]
    yield from _shortened(removed, "client CAs removed")


def _parsed(certificates: Iterable[bytes], others: set[bytes]) -> dict[tuple[str, bytes], datetime.datetime]:
    """Name, key and last moment of those that are not among `others`."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `pem` has let them through
        for der in certificates:
            if der not in others:
                one = x509.load_der_x509_certificate(der)
                key = one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                found[_subject(one), key] = one.not_valid_after_utc
    return found


def _subject(certificate: x509.Certificate) -> str:
    try:
        return dn(certificate.subject) or "without a name"
    except ValueError:  # OpenSSL reads names that this parser does not
        return "with a name that cannot be read"


def _lists(old: Sequence[InForce], new: Sequence[InForce]) -> Iterator[str]:
    """By issuer; several CAs may have one name, and their lists are taken in order."""
    same = {one.digest for one in old} & {one.digest for one in new}
    before: defaultdict[str, list[InForce]] = defaultdict(list)
    for one in old:
        if one.digest not in same:
            before[one.issuer].append(one)
    for one in new:
        if one.digest not in same:
            other = before[one.issuer].pop(0) if before[one.issuer] else None
            due = f"next update {one.next_update:%Y-%m-%d %H:%M} UTC" if one.next_update else "without a next update"
            yield f"revocation list of {one.issuer} {_numbers(other, one)}, {due}"
    for issuer, rest in before.items():
        yield from (f"revocation list of {issuer} removed" for _ in rest)


def _numbers(old: InForce | None, new: InForce) -> str:
    if old is None:
        return "added" if new.number is None else f"number {new.number} added"
    if old.number == new.number:
        return "replaced" if new.number is None else f"replaced, its number is {new.number} as before"
    names = ["none" if number is None else str(number) for number in (old.number, new.number)]
    older = old.number is not None and (new.number is None or new.number < old.number)
    return f"number {' -> '.join(names)}{' (an older one)' if older else ''}"


def _until(moment: datetime.datetime) -> str:
    return f"expires {moment:%Y-%m-%d}"


def _shortened(texts: list[str], what: str) -> Iterator[str]:
    yield from texts[:SHOWN]
    if len(texts) > SHOWN:
        yield f"{len(texts) - SHOWN} more {what}"
