"""What an authority has issued and revoked: the journal `index`, one JSON object a line, only ever appended to.

    {"event": "issued", "time": ..., "serial": "3F...", "name": "alice", "profile": "client", "issuer": "intermediate", ...}
    {"event": "revoked", "time": ..., "serial": "3F...", "reason": "certificateHold"}
    {"event": "released", "time": ..., "serial": "3F..."}
    {"event": "crl", "time": ..., "number": 4, "next_update": {"intermediate": ..., "root": ...}}

The file is locked (flock) while it is read or appended to and is never replaced, so the lock is the file's own. A crash
can cut off the last line only, and its command has then not said that it succeeded: such a line is no line. Anything
else that cannot be read is damage, and nothing is issued or revoked over it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import json
import os
import random
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from nlbcore.errors import EXIT_BUSY
from nlbcore.pki.errors import PkiError
from nlbcore.pki.store import failure

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another command; each holds the lock for milliseconds, or seconds where a list is very long."""
_LOCK_PAUSES = (0.002, 0.1)
"""Seconds between two tries, at first and at last: hundreds that wait must not keep those from working that hold it."""

AUTHORITY = "ca"
"""The profile of an intermediate in the index."""

STATUSES = ("valid", "expired", "revoked", "issuer revoked")
"""What a certificate can be; the last is for one that is good itself, below an intermediate that has been revoked."""


@dataclass(frozen=True)
class Entry:
    """A certificate in the index."""

    serial: int
    name: str
    profile: str
    issuer: str  # "intermediate" or "root"
    subject: str
    sans: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    sha256: str
    revoked_at: dt.datetime | None = None
    reason: str = ""
    file: str = ""
    """Where the certificate was written, an absolute path; empty for an authority's own."""
    days: int | None = None
    """How long it was asked to be valid, if that was said; a renewed one is as long."""
    renews: int | None = None
    """The serial number of the certificate that it follows."""
    issuer_revoked: bool = False
    """The intermediate that has issued it has been revoked; see `Index.standing`."""

    @property
    def serial_hex(self) -> str:
        return serial_hex(self.serial)

    def status(self, now: dt.datetime) -> str:
        """One of `STATUSES`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.not_after < now:
            return "expired"
        return "issuer revoked" if self.issuer_revoked else "valid"

    def as_dict(self, now: dt.datetime) -> dict[str, object]:
        return {
            "name": self.name,
            "profile": self.profile,
            "status": self.status(now),
            "serial": self.serial_hex,
            "subject": self.subject,
            "sans": list(self.sans),
            "not_before": stamp(self.not_before),
            "not_after": stamp(self.not_after),
            "sha256": self.sha256,
            "issuer": self.issuer,
            "revoked_at": stamp(self.revoked_at) if self.revoked_at else None,
            "reason": self.reason or None,
            "file": self.file or None,
        }


class Index:
    """The journal, open and locked; made by `opened`."""

    def __init__(self, path: Path, descriptor: int, *, blank: bool = False) -> None:
        self.path = path
        self.entries: dict[int, Entry] = {}
        self.crl_number = 0
        self.next_updates: dict[str, dt.datetime] = {}
        self._descriptor = descriptor
        self._size = 0  # of the lines that count
        self._cleared = b""
        if not blank:
            self._read()

    def issued(self, entry: Entry) -> None:
        """Append a certificate; on the disk when this returns."""
        fields = {
            "serial": entry.serial_hex,
            "name": entry.name,
            "profile": entry.profile,
            "issuer": entry.issuer,
            "subject": entry.subject,
            "sans": entry.sans,
            "not_before": stamp(entry.not_before),
            "not_after": stamp(entry.not_after),
            "sha256": entry.sha256,
            "file": entry.file,
            "days": entry.days,
            "renews": None if entry.renews is None else serial_hex(entry.renews),
        }
        self._append([_event("issued", **fields)])

    def listed(self, changed: list[Entry], number: int, next_updates: dict[str, dt.datetime]) -> None:
        """Append what has been revoked or released, and the number of the CRL that is about to tell of it."""
        events = [
            _event("revoked", serial=entry.serial_hex, reason=entry.reason)
            if entry.revoked_at
            else _event("released", serial=entry.serial_hex)
            for entry in changed
        ]
        updates = {issuer: stamp(moment) for issuer, moment in next_updates.items()}
        self._append([*events, _event("crl", number=number, next_update=updates)])

    def standing(self, entries: Iterable[Entry]) -> list[Entry]:
        """These entries, each with whether its issuer has been revoked.

        The newest certificate of the intermediate counts: older ones have the same key, and verifiers are given the newest.
        """
        own = [entry for entry in self.entries.values() if entry.profile == AUTHORITY]
        if not own or own[-1].revoked_at is None:
            return list(entries)
        return [entry if entry.profile == AUTHORITY else replace(entry, issuer_revoked=True) for entry in entries]

    def clear(self) -> None:
        """Empty a journal that was opened blank."""
        self._cleared = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        os.ftruncate(self._descriptor, 0)

    @contextlib.contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Take back what the block has changed if it fails; nobody else has seen it, for the lock is held."""
        size = self._size
        try:
            yield
        except BaseException:  # an interrupt too
            with contextlib.suppress(OSError):  # a certificate too many is listed then; the first failure tells more
                os.ftruncate(self._descriptor, size)
                if self._cleared:
                    os.write(self._descriptor, self._cleared)
                os.fsync(self._descriptor)
            raise

    def _read(self) -> None:
        with open(self._descriptor, "rb", closefd=False) as stream:
            data = stream.read()
        lines = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            last = number == len(lines)
            if last and not line:
                break
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                if last:
                    break
                raise PkiError(f"{self.path}:{number}: the index is damaged; restore it from a backup") from None
            self._size += len(line) + (not last)

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "issued":
            entry = _entry(event)
            self.entries[entry.serial] = entry
        elif kind == "revoked":
            serial = int(event["serial"], 16)
            moment, reason = _moment(event["time"]), str(event["reason"])
            self.entries[serial] = replace(self.entries[serial], revoked_at=moment, reason=reason)
        elif kind == "released":
            serial = int(event["serial"], 16)
            self.entries[serial] = replace(self.entries[serial], revoked_at=None, reason="")
        elif kind == "crl":
            self.crl_number = max(self.crl_number, int(event["number"]))
            self.next_updates = {str(issuer): _moment(text) for issuer, text in event["next_update"].items()}
        else:
            raise ValueError(kind)

    def _append(self, events: list[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)
        try:
            end = os.fstat(self._descriptor).st_size
            if end != self._size:
                os.ftruncate(self._descriptor, self._size)
            if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
                data = b"\n" + data
            try:
                if os.write(self._descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, self._size)
                raise
        except OSError as error:
            raise failure("write", self.path, error) from None
        self._size += len(data)
        for event in events:
            self._apply(event)


@contextlib.contextmanager
def opened(path: Path, *, change: bool, blank: bool = False) -> Iterator[Index]:
    """The index, locked: shared to look at it, alone to change it.

    `blank` is for a new authority: the file is made if it is not there, and what is in it is not looked at.

    Raises:
        PkiError: it is missing, damaged, or another command does not let go of it (exit code 75).
    """
    flags = (
        (os.O_RDWR | os.O_APPEND if change else os.O_RDONLY)
        | (os.O_CREAT if blank else 0)
        | os.O_CLOEXEC
        | os.O_NONBLOCK
    )
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        text = f"{path} is missing: nothing can be issued or revoked without it; restore it from a backup"
        raise PkiError(text) from None
    except OSError as error:
        raise failure("open", path, error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PkiError(f"{path} is not a regular file: restore it from a backup")
        _lock(path, descriptor, fcntl.LOCK_EX if change else fcntl.LOCK_SH)
        yield Index(path, descriptor, blank=blank)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int, kind: int) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause, longest = _LOCK_PAUSES
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                text = f"{path} has been locked by another command for {LOCK_TIMEOUT:g} seconds; try again later"
                raise PkiError(text, EXIT_BUSY) from None
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that they do not all come back at once
            pause = min(pause * 1.5, longest)
        except OSError as error:
            raise failure("lock", path, error) from None
        else:
            return


def is_beginning(path: Path) -> bool:
    """Whether the file is as far as an authority's index gets before its keys are there: its own first line at most."""
    data = path.read_bytes()
    first = json.dumps({"event": "issued"})[:-1].encode()
    return data.count(b"\n") <= 1 and data[: len(first)] == first[: len(data)]


def now() -> dt.datetime:
    """The time in UTC, in whole seconds as certificates have them."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def readable(moment: dt.datetime) -> str:
    """A date and time for people."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def stamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, lower-case hexadecimal, as in the access log."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial_hex(serial: int) -> str:
    """Hexadecimal as openssl prints it: whole bytes."""
    text = f"{serial:X}"
    return f"0{text}" if len(text) % 2 else text


def _moment(text: str) -> dt.datetime:
    # strptime() takes thirty times as long, and an index may have hundreds of thousands.
    made = dt.datetime.fromisoformat(text)
    if made.tzinfo is not dt.UTC:
        raise ValueError(text)
    return made


def _event(kind: str, **fields: object) -> dict[str, Any]:
    return {"event": kind, "time": stamp(now()), **fields}


def _entry(event: dict[str, Any]) -> Entry:
    return Entry(
        serial=int(event["serial"], 16),
        name=str(event["name"]),
        profile=str(event["profile"]),
        issuer=str(event["issuer"]),
        subject=str(event["subject"]),
        sans=tuple(str(name) for name in event["sans"]),
        not_before=_moment(event["not_before"]),
        not_after=_moment(event["not_after"]),
        sha256=str(event["sha256"]),
        file=str(event.get("file", "")),
        days=None if event.get("days") is None else int(event["days"]),
        renews=None if event.get("renews") is None else int(event["renews"], 16),
    )
