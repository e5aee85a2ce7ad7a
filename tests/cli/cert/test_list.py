"""`nlb cert list`: a table for people, JSON for programs."""

from __future__ import annotations

import json
import re
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


def test_below_a_revoked_intermediate(folder: Path) -> None:
    """What it has issued is good for nobody who looks at the whole chain: said so, and good again when it is."""
    authority = Authority.open(folder / "ca")
    authority.issue(Request("alice", "client", term=Term(days=5)), out=folder)
    authority.issue(Request("mallory", "client", term=Term(days=5)), out=folder)
    authority.revoke("mallory")
    listed = ("cert", "list", "--ca", "ca")
    assert (
        nlb("cert", "revoke", "intermediate", "--ca", "ca", "--reason", "certificateHold", cwd=folder).returncode == 0
    )
    result = nlb(*listed, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    _, own, alice, mallory = (re.split("  +", line) for line in result.stdout.splitlines())
    assert (own[2], alice[:3], mallory[2]) == ("revoked", ["alice", "client", "issuer revoked"], "revoked")
    shown = json.loads(nlb(*listed, "--json", cwd=folder).stdout)
    assert [one["status"] for one in shown] == ["revoked", "issuer revoked", "revoked"]
    assert (shown[1]["revoked_at"], shown[1]["reason"]) == (None, None)
    assert json.loads(nlb(*listed, "--expiring", "30d", "--json", cwd=folder).stdout) == []
    counted = json.loads(nlb("ca", "show", "ca", "--json", cwd=folder).stdout)["certificates"]
    assert counted == {"valid": 0, "expired": 0, "revoked": 1, "issuer revoked": 1}
    trust = ("--ca-file", "ca/chain.crt", "--crl", "ca/ca.crl")
    assert nlb("cert", "verify", "alice.crt", *trust, cwd=folder).returncode == 2
    assert nlb("cert", "unrevoke", "intermediate", "--ca", "ca", cwd=folder).returncode == 0
    shown = json.loads(nlb(*listed, "--expiring", "30d", "--json", cwd=folder).stdout)
    assert [(one["name"], one["status"]) for one in shown] == [("alice", "valid")]
    assert nlb("cert", "verify", "alice.crt", *trust, "--warn-days", "0", cwd=folder).returncode in {0, 1}


def test_an_older_certificate_of_the_intermediate(folder: Path) -> None:
    """A newer one with the same key vouches for what the old one has issued."""
    authority = Authority.open(folder / "ca")
    authority.issue(Request("alice", "client"), out=folder)
    old = authority.entries()[0].serial_hex
    authority.renew_authority(intermediate_days=100)
    authority.revoke(old, "superseded")
    shown = json.loads(nlb("cert", "list", "--ca", "ca", "--json", cwd=folder).stdout)
    assert [one["status"] for one in shown] == ["revoked", "valid", "valid"]


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
    assert result.stderr.startswith('nlb: --expiring "soon" is not a span of time')
