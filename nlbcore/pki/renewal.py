"""Which certificates are to be renewed, and what the new ones take over from the old."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from cryptography import x509

from nlbcore.pki import keys, store
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.hierarchy import INTERMEDIATE, ROOT
from nlbcore.pki.index import AUTHORITY, Entry, fingerprint, readable
from nlbcore.pki.issue import Wanted
from nlbcore.pki.keys import PublicKey


def followed(entries: Iterable[Entry]) -> set[int]:
    """The serial numbers of certificates that have been renewed."""
    return {entry.renews for entry in entries if entry.renews is not None}


def newest(found: Sequence[Entry], target: str, renewed: Collection[int]) -> Entry:
    """The one that is renewed, of those that a name, a serial number or a file means: the newest that is live.

    Args:
        found: these, in the order of issue
        target: what was meant, for messages
        renewed: serial numbers of certificates that have been renewed already

    Raises:
        PkiError: all have been revoked, they are an authority's own, or the name stands for certificates that do not
            follow each other.
    """
    live = [entry for entry in found if entry.revoked_at is None]
    if not live:
        raise PkiError(f"{target} has been revoked: a new certificate is issued, not renewed")
    if live[0].profile == AUTHORITY:
        raise PkiError(f"{target} is the authority's own certificate: `nlb ca renew` renews it")
    last = [entry for entry in live if entry.serial not in renewed] or live
    places = {(entry.profile, entry.file): entry for entry in last}
    if len(places) > 1:
        ways = "; ".join(f"{one.serial_hex} ({one.profile}, {one.file or 'file unknown'})" for one in places.values())
        raise PkiError(f"{target} means several certificates: name one by its serial number or its file: {ways}")
    return last[-1]


def due(entries: Iterable[Entry], now: dt.datetime, before: dt.timedelta, profiles: Sequence[str]) -> list[Entry]:
    """The certificates that end within `before`, each the newest of its name, profile and file, and not renewed elsewhere.

    Not those that have ended: one that was let lapse does not come back to life by a timer. Nor those whose newest has
    been revoked: their holder is to have none. Nor those whose issuer has been: nothing that it signs is accepted.
    """
    entries = list(entries)
    renewed = followed(entries)
    latest: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        if entry.profile in profiles:
            latest[entry.name, entry.profile, entry.file] = entry
    return [
        one
        for one in latest.values()
        if one.revoked_at is None
        and not one.issuer_revoked
        and one.serial not in renewed
        and now < one.not_after <= now + before
    ]


def refuse_outliving(
    entries: Iterable[Entry], new: Mapping[str, Entry], root_days: int | None, intermediate_days: int | None
) -> None:
    """Whether what the intermediate has issued would outlive a new certificate of it.

    Args:
        entries: the index
        new: the new certificates of the authority, of intermediate and root or one of them
        root_days: what was asked for, for messages
        intermediate_days: the same

    Raises:
        BadValue: a certificate is valid for longer.
    """
    if INTERMEDIATE not in new:
        return
    end = new[INTERMEDIATE].not_after
    live = [one for one in entries if one.profile != AUTHORITY and one.revoked_at is None and one.not_after > end]
    if live:
        last = max(live, key=lambda one: one.not_after)
        with_root = ROOT in new and new[ROOT].not_after == end
        field, days = ("days", root_days) if with_root else ("intermediate_days", intermediate_days)
        reason = f"{last.name} would outlive its issuer: it is valid until {readable(last.not_after)}"
        raise BadValue(field, days, f"{reason}; give more days, or revoke it first")


def refuse_no_later(entry: Entry, issuer: x509.Certificate, folder: Path) -> None:
    """Whether a new certificate could end later than this one: none does that ends with the authority in `folder`."""
    if entry.not_after >= issuer.not_valid_after_utc:
        text = f"its authority ends with it, on {readable(entry.not_after)}, and so would a new one"
        raise PkiError(f"{text}: `nlb ca renew {folder}` comes first")


def file_of(entry: Entry, target: str) -> Path:
    """Where the certificate is: where it was written, unless a file was named.

    Raises:
        PkiError: nobody knows.
    """
    path = Path(target)
    if target not in {entry.name, entry.serial_hex} and store.is_file(path):
        return path
    if not entry.file:
        raise PkiError(f"the index does not say where the certificate {entry.name} is: name its file instead")
    return Path(entry.file)


def load(entry: Entry, path: Path) -> x509.Certificate:
    """The certificate in its file.

    Raises:
        PkiError: it is not there, or it is another.
    """
    try:
        made = x509.load_pem_x509_certificate(store.read(path))
    except ValueError:
        raise PkiError(f"{path} is not a PEM certificate, or a damaged one") from None
    except PkiError as error:
        text = f"{error}: if it has been moved, name the file instead of {entry.name}; if it is gone, issue a new one"
        raise PkiError(text, error.exit_code) from None
    if fingerprint(made) != entry.sha256:
        text = f"{path} is not the certificate {entry.serial_hex}, the newest of {entry.name} (until"
        raise PkiError(f"{text} {readable(entry.not_after)}): it has been replaced by another")
    return made


def taken_over(entry: Entry, old: x509.Certificate) -> tuple[Wanted, PublicKey]:
    """What a renewed certificate says, and the key it is for."""
    try:
        sans = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        sans = []
    key = old.public_key()
    assert isinstance(key, keys.PublicKey)
    return Wanted(entry.profile, old.subject, sans), key


def check_key(path: Path, old: x509.Certificate, *, replaced: bool) -> bool:
    """Whether the key is beside its certificate. That of a certificate that was made from a request is elsewhere.

    Args:
        path: of the key
        old: its certificate
        replaced: a new key takes its place; else one that somebody has put under a passphrase is not looked into

    Raises:
        PkiError: there is another key.
    """
    if not path.exists():
        return False
    if not replaced and keys.is_encrypted(store.read(path)):
        return True
    if not keys.matches(keys.read_private(path), old):
        raise PkiError(f"{path} is not the key of {path.with_suffix('.crt')}: renewing would not make a pair of them")
    return True
