"""What is said about a new certificate: what is there, what is remarkable, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest

from nlbcli.cert.told import tell
from nlbcore.pki.index import Entry
from nlbcore.pki.outcome import Issued

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
ENTRY = Entry(0xABC, "alice", "client", "intermediate", "CN=alice", ("dns:alice",), NOW, NOW.replace(year=2999), "00ff")
PLAIN = Issued(ENTRY, Path("alice.crt"), Path("alice.key"), None, clamped=False)


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    tell(PLAIN, as_json=False)
    out, errors = capsys.readouterr()
    assert out == (
        "alice: client certificate 0ABC\n  dns:alice\n  valid until 2999-06-01 00:00 UTC\n"
        "  alice.crt  certificate and intermediate\n  alice.key  private key\n"
    )
    assert errors == ""


def test_what_is_remarkable(capsys: pytest.CaptureFixture[str]) -> None:
    later = replace(ENTRY, sans=(), not_before=NOW.replace(year=2998))
    p12 = Path("alice.p12")
    tell(
        replace(PLAIN, entry=later, new_key=False, clamped=True, left_out=("x",), renewed=ENTRY, stale_p12=p12),
        as_json=False,
    )
    out, errors = capsys.readouterr()
    assert out == (
        "alice: client certificate 0ABC\n  no alternative names\n  valid from 2998-06-01 00:00 UTC\n"
        "  valid until 2999-06-01 00:00 UTC, when its authority ends\n  alice.crt  certificate and intermediate\n"
        "  follows 0ABC, which is good until 2999-06-01 00:00 UTC\n"
    )
    assert errors == (
        "nlb: left out of the certificate: x\n"
        "nlb: alice.p12 still holds the certificate before: `nlb cert p12` makes a new bundle\n"
    )
    tell(replace(PLAIN, late=True), as_json=False)
    assert "  valid from 2026-06-01 00:00 UTC, when its authority begins\n" in capsys.readouterr().out


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    tell(replace(PLAIN, left_out=("x",)), as_json=True)
    out, errors = capsys.readouterr()
    assert json.loads(out)["left_out"] == ["x"]
    assert errors == "nlb: left out of the certificate: x\n"
