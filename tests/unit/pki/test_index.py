"""The journal: what is appended is read back, a line that a crash cut off is no line, damage is told by its line."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nlbcore.pki import index
from nlbcore.pki.errors import PkiError
from nlbcore.pki.index import Entry, opened

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
ALICE = Entry(
    0xABC,
    "alice",
    "client",
    "intermediate",
    "CN=Älice",
    ("dns:alice",),
    BEGIN,
    END,
    "00ff",
    file="/etc/nlb/alice.crt",
    days=30,
    renews=0x1,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with one certificate."""
    path = tmp_path / "index"
    with opened(path, change=True, blank=True) as journal:
        journal.clear()
        journal.issued(ALICE)
    return path


def read(path: Path) -> list[Entry]:
    with opened(path, change=False) as journal:
        return list(journal.entries.values())


def test_round_trip(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert read(path) == [ALICE]
    assert ALICE.serial_hex == "0ABC"
    taken = replace(ALICE, revoked_at=index.now(), reason="superseded")
    with opened(path, change=True) as journal:
        assert (journal.crl_number, journal.next_updates) == (0, {})
        journal.listed([taken], 3, {"root": END})
        assert journal.entries[0xABC].reason == "superseded"
    with opened(path, change=False) as journal:
        (entry,) = journal.entries.values()
        assert replace(entry, revoked_at=taken.revoked_at) == taken
        assert (journal.crl_number, journal.next_updates) == (3, {"root": END})
        assert len(path.read_bytes().splitlines()) == 3
    with opened(path, change=True) as journal:
        journal.listed([replace(taken, revoked_at=None, reason="")], 4, {"root": END})
    assert read(path) == [ALICE]


def test_what_an_older_version_has_written(path: Path) -> None:
    """It did not note where the file is, for how long it was asked to be, nor what it follows."""
    line = json.loads(path.read_text())
    assert (line.pop("file"), line.pop("days"), line.pop("renews")) == ("/etc/nlb/alice.crt", 30, "01")
    path.write_text(json.dumps(line) + "\n")
    assert read(path) == [replace(ALICE, file="", days=None, renews=None)]


def test_status() -> None:
    assert ALICE.status(BEGIN) == "valid"
    assert ALICE.status(END + dt.timedelta(1)) == "expired"
    assert replace(ALICE, revoked_at=BEGIN).status(END + dt.timedelta(1)) == "revoked"
    below = replace(ALICE, issuer_revoked=True)
    assert below.status(BEGIN) == below.as_dict(BEGIN)["status"] == "issuer revoked"
    assert below.status(END + dt.timedelta(1)) == "expired"
    assert replace(below, revoked_at=BEGIN).status(BEGIN) == "revoked"
    assert replace(ALICE, revoked_at=BEGIN, reason="superseded").as_dict(BEGIN)["revoked_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("cut", [1, 20, -1, -2])
def test_a_line_cut_off_by_a_crash_is_no_line(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    other = replace(ALICE, serial=0xDEF, name="bob")
    with opened(path, change=True) as journal:
        journal.issued(other)
    second = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + second[:cut])
    complete = second[:cut].endswith(b"}")  # only the line's end is missing: nothing of what it says is
    assert read(path) == ([ALICE, other] if complete else [ALICE])
    third = replace(ALICE, serial=0x111, name="carol")
    with opened(path, change=True) as journal:
        journal.issued(third)
    assert read(path) == ([ALICE, other, third] if complete else [ALICE, third])


def test_zeros_at_the_end_are_no_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert read(path) == [ALICE]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"\xff\xfe",
        b"",
        b"[]",
        b'"x"',
        b'{"event": "unheard of"}',
        b'{"event": "issued", "serial": "xyz"}',
        b'{"event": "revoked", "serial": "DEF", "time": "2026-01-01T00:00:00Z", "reason": "superseded"}',
        b'{"event": "crl", "number": 1, "next_update": []}',
    ],
)
def test_damage_is_told_by_its_line(path: Path, line: bytes) -> None:
    path.write_bytes(path.read_bytes() + line + b"\n")
    before = path.read_bytes()
    with pytest.raises(PkiError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:2: the index is damaged; restore it from a backup"
    with pytest.raises(PkiError, match=r"damaged"), opened(path, change=True):
        pass
    assert path.read_bytes() == before


def test_missing_and_unusable(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"index is missing: .* restore it from a backup"):
        read(tmp_path / "index")
    with pytest.raises(PkiError, match=r"cannot open .*: is a directory"), opened(tmp_path, change=True):
        pass
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):  # nobody waits at one, or reads without end
        with pytest.raises(PkiError, match=rf"{path} is not a regular file: restore it from a backup"):
            read(path)


def test_a_failed_write_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    with opened(path, change=True) as journal:
        descriptor = os.open("/dev/full", os.O_RDWR)
        os.dup2(descriptor, journal._descriptor)
        os.close(descriptor)
        with pytest.raises(PkiError, match=f"cannot write {path}"):
            journal.issued(replace(ALICE, serial=1))
    assert path.read_bytes() == before


def test_a_failure_is_undone(path: Path) -> None:
    before = path.read_bytes()
    for blank in (False, True):
        with pytest.raises(KeyError), opened(path, change=True, blank=blank) as journal, journal.undone_on_failure():
            if blank:
                journal.clear()
            journal.issued(replace(ALICE, serial=1))
            raise KeyError
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("", True),
        ('{"eve', True),
        ('{"event": "issued", "serial": "1', True),
        ('{"event": "issued", "serial": "1"}\n', True),
        ('{"event": "issued", "serial": "1"}\n{"event": "issued"', True),
        ('{"event": "issued", "serial": "1"}\n{"event": "issued"}\n', False),
        ('{"event": "crl"}\n', False),
        ("my own", False),
    ],
)
def test_beginning(tmp_path: Path, text: str, beginning: bool) -> None:
    (tmp_path / "index").write_text(text)
    assert index.is_beginning(tmp_path / "index") is beginning


def test_another_command_holds_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LOCK_TIMEOUT", 0.05)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert read(path) == [ALICE]  # readers go together
        with pytest.raises(PkiError) as caught, opened(path, change=True):
            pass
        assert caught.value.exit_code == 75
        assert "has been locked by another command" in str(caught.value)
    with opened(path, change=True):
        pass


def test_serials_as_openssl_prints_them() -> None:
    assert [index.serial_hex(one) for one in (0, 10, 0x1FF, 0xABCD)] == ["00", "0A", "01FF", "ABCD"]
