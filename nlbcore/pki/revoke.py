"""Which certificates are meant by a name, a serial number or a file, and what may be done to them."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from nlbcore.pki import store
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import Entry, Index, fingerprint, readable
from nlbcore.pki.words import HOLD, REASONS


def find(index: Index, target: str) -> list[Entry]:
    """The certificates that a name, a serial number (hexadecimal) or a certificate file means, in the order of issue.

    Raises:
        PkiError: none is meant.
    """
    found = [entry for entry in index.entries.values() if entry.name == target] or _of_serial(index, target)
    if not found and store.is_file(Path(target)):
        found = [_of_file(index, Path(target))]
    if found:
        return found
    near = difflib.get_close_matches(target, {entry.name for entry in index.entries.values()}, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    raise PkiError(f'"{target}" is neither a name nor a serial number in {index.path}, nor a file{hint}')


def revoked(found: Sequence[Entry], target: str, reason: str, now: dt.datetime) -> list[Entry]:
    """Those of the certificates that are live, taken back; one that is on hold may be taken back for good.

    Raises:
        BadValue: there is no such reason.
        PkiError: all have been revoked already.
    """
    if reason not in REASONS:
        raise BadValue("reason", reason, f"one of {', '.join(REASONS)} is meant")
    live = [one for one in found if one.revoked_at is None or (one.reason == HOLD and reason != HOLD)]
    if not live:
        since = max(entry.revoked_at for entry in found if entry.revoked_at)
        hint = "`nlb ca crl` writes the list again"
        raise PkiError(f"{target} has been revoked already, on {readable(since)}; {hint}")
    return [replace(entry, revoked_at=now, reason=reason) for entry in live]


def released(found: Sequence[Entry], target: str) -> list[Entry]:
    """Those of the certificates that are on hold, given back.

    Raises:
        PkiError: none is on hold.
    """
    held = [entry for entry in found if entry.reason == HOLD]
    if held:
        return [replace(entry, revoked_at=None, reason="") for entry in held]
    if all(entry.revoked_at is None for entry in found):
        raise PkiError(f"{target} has not been revoked: there is nothing to take back")
    reasons = ", ".join(sorted({entry.reason for entry in found if entry.revoked_at}))
    raise PkiError(f"{target} has been revoked for good ({reasons}): only {HOLD} can be taken back; issue a new one")


def _of_serial(index: Index, text: str) -> list[Entry]:
    try:
        serial = int(text.replace(":", ""), 16)
    except ValueError:
        return []
    return [index.entries[serial]] if serial in index.entries else []


def _of_file(index: Index, path: Path) -> Entry:
    try:
        certificate = x509.load_pem_x509_certificate(store.read(path))
    except ValueError:
        raise PkiError(f"{path} is not a PEM certificate") from None
    entry = index.entries.get(certificate.serial_number)
    if entry is None or entry.sha256 != fingerprint(certificate):
        raise PkiError(f"{path} is not in {index.path}: this authority has not issued it")
    return entry
