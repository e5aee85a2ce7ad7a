"""`nlb cert list`: a table for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request, Term
from tests.support.balancer import nlb


def test_list(folder: Path) -> None:
    authority = Authority.open(folder / "ca")
    alice = authority.issue(Request("alice", "client"), out=folder)
    authority.issue(Request("www", "server"), out=folder)
    authority.revoke("alice", "superseded")
    result = nlb("cert", "list", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    heading, first, second, third = result.stdout.splitlines()
    assert heading.split() == ["NAME", "PROFILE", "STATUS", "UNTIL", "SERIAL"]
    assert first.split()[:3] == ["intermediate", "ca", "valid"]
    assert second.split()[:3] == ["alice", "client", "revoked"]
    assert second.endswith(f" UTC  {alice.entry.serial_hex}")
    assert third.split()[:3] == ["www", "server", "valid"]
    assert len({line.index("UTC") for line in (first, second, third)}) == 1
    assert "\x1b" not in result.stdout
    shown = json.loads(nlb("cert", "list", "--ca", "ca", "--json", cwd=folder).stdout)
    assert [one["name"] for one in shown] == ["intermediate", "alice", "www"]
    assert (shown[1]["status"], shown[1]["reason"]) == ("revoked", "superseded")
    assert shown[2]["revoked_at"] is None


def test_what_ends_soon(folder: Path) -> None:
    """Not what has been revoked, nor what has a successor."""
    authority = Authority.open(folder / "ca")
    for name, days in (("soon", 5), ("later", 50), ("revoked", 5), ("renewed", 5)):
        authority.issue(Request(name, "client", term=Term(days=days)), out=folder)
    authority.revoke("revoked")
    authority.renew("renewed", term=Term(days=50))
    listed = ("cert", "list", "--ca", "ca", "--expiring")
    result = nlb(*listed, "30d", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["NAME", "soon"]
    shown = json.loads(nlb(*listed, "9w", "--json", cwd=folder).stdout)
    assert [one["name"] for one in shown] == ["soon", "later", "renewed"]
    assert [one["file"] for one in shown] == [str(folder / f"{one['name']}.crt") for one in shown]
    shown = json.loads(nlb(*listed, "2000d", "--json", cwd=folder).stdout)
    assert [one["name"] for one in shown] == ["intermediate", "soon", "later", "renewed"]
    result = nlb(*listed, "soon", cwd=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith('nlb: --expiring "soon": is no span of time')
