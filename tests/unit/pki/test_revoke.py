"""Which certificates are meant, and whether they can be taken or given back."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from nlbcore.pki import index, revoke
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import Entry
from nlbcore.pki.issue import Request
from nlbcore.pki.words import HOLD

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
GOOD = Entry(1, "alice", "client", "intermediate", "CN=alice", (), NOW, NOW, "")
HELD = replace(GOOD, serial=2, revoked_at=NOW, reason=HOLD)
GONE = replace(GOOD, serial=3, revoked_at=NOW, reason="keyCompromise")


def test_what_is_meant(tmp_path: Path, authority: Authority) -> None:
    one = authority.issue(Request("alice", "client"), out=tmp_path)
    two = authority.issue(Request("alice", "client"), out=tmp_path / "new")
    bob = authority.issue(Request("bob", "client"), out=tmp_path)
    number = two.entry.serial_hex
    spellings = (number, number.lower(), f"0x{number}", number.lstrip("0"), ":".join(_pairs(number)))
    with index.opened(authority.folder / "index", change=False) as journal:
        for target in (*spellings, str(two.certificate)):
            assert revoke.find(journal, target) == [two.entry], target
        assert revoke.find(journal, "alice") == [one.entry, two.entry]
        for target, message in [
            ("alise", 'is neither a name nor a serial number in .*, nor a file .did you mean "alice"'),
            ("deadbeef", "is neither a name nor a serial number"),
            ("x" * 5000, "is neither a name nor a serial number"),
            (str(tmp_path), "is neither a name nor a serial number"),
            (str(bob.private_key), "is not a PEM certificate"),
        ]:
            with pytest.raises(PkiError, match=message):
                revoke.find(journal, target)
    assert authority.revoke(number).entries[0].serial == two.entry.serial
    assert [entry.serial for entry in authority.revoke("alice").entries] == [one.entry.serial]
    for target in ("alice", number, str(one.certificate)):
        with pytest.raises(PkiError, match=r"has been revoked already, on 2.* UTC; `nlb ca crl` writes the list again"):
            authority.revoke(target)
    with pytest.raises(BadValue, match='reason "boredom": one of unspecified, '):
        authority.revoke("bob", "boredom")


def _pairs(text: str) -> list[str]:
    return [text[at : at + 2] for at in range(0, len(text), 2)]


def test_a_stranger_with_the_same_serial(tmp_path: Path, authority: Authority) -> None:
    other = Authority.create(tmp_path / "other")
    stranger = other.issue(Request("alice", "client"), out=tmp_path)
    with pytest.raises(PkiError, match=r"this authority has not issued it"):
        authority.revoke(str(stranger.certificate))


def test_taken_back() -> None:
    later = NOW + dt.timedelta(days=1)
    taken = revoke.revoked([GOOD, HELD, GONE], "alice", "superseded", later)
    assert [(one.serial, one.revoked_at, one.reason) for one in taken] == [
        (1, later, "superseded"),
        (2, later, "superseded"),  # from hold to for good
    ]
    assert [one.serial for one in revoke.revoked([GOOD, HELD], "alice", HOLD, later)] == [1]
    for found in ([HELD], [GONE]):
        with pytest.raises(PkiError, match=r"alice has been revoked already, on 2026-06-01 00:00 UTC"):
            revoke.revoked(found, "alice", HOLD, later)
    with pytest.raises(BadValue, match=r"removeFromCRL"):
        revoke.revoked([GOOD], "alice", "removeFromCRL", later)


def test_given_back() -> None:
    assert revoke.released([GOOD, HELD, GONE], "alice") == [replace(GOOD, serial=2)]
    with pytest.raises(PkiError, match=r"alice has not been revoked: there is nothing to take back"):
        revoke.released([GOOD], "alice")
    with pytest.raises(PkiError, match=r"alice has been revoked for good \(keyCompromise\): only certificateHold"):
        revoke.released([GOOD, GONE], "alice")
