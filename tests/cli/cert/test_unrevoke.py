"""`nlb cert unrevoke`: from hold back to good, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
from tests.support.balancer import nlb
from tests.support.programs import run


def test_from_hold(folder: Path) -> None:
    issued = Authority.open(folder / "ca").issue(Request("alice", "client"), out=folder)
    files = ["-CAfile", str(folder / "ca/chain.crt"), "-CRLfile", str(folder / "ca/ca.crl"), str(issued.certificate)]
    command = ["openssl", "verify", "-crl_check", *files]
    assert nlb("cert", "revoke", "alice", "--ca", "ca", "--reason", "certificatehold", cwd=folder).returncode == 0
    assert run(*command, check=False).returncode != 0
    result = nlb("cert", "unrevoke", "alice", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == f"alice: client certificate {issued.entry.serial_hex} is good again"
    assert second.startswith("ca/ca.crl: list 2, 0 revoked, the next is due 2")
    run(*command)
    nlb("cert", "revoke", "alice", "--ca", "ca", "--reason", "certificateHold", cwd=folder)
    shown = json.loads(nlb("cert", "unrevoke", "alice.crt", "--ca", "ca", "--json", cwd=folder).stdout)
    assert [(one["name"], one["status"]) for one in shown["unrevoked"]] == [("alice", "valid")]
    assert shown["crl"]["number"] == 4


def test_below_a_revoked_intermediate(folder: Path) -> None:
    """It is not called good."""
    Authority.open(folder / "ca").issue(Request("alice", "client"), out=folder)
    for name in ("alice", "intermediate"):
        nlb("cert", "revoke", name, "--ca", "ca", "--reason", "certificateHold", cwd=folder)
    result = nlb("cert", "unrevoke", "alice", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert " is on hold no more, but its issuer has been revoked\n" in result.stdout


def test_refused(folder: Path) -> None:
    Authority.open(folder / "ca").issue(Request("alice", "client"), out=folder)
    result = nlb("cert", "unrevoke", "alice", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "nlb: alice has not been revoked: there is nothing to take back\n"
    nlb("cert", "revoke", "alice", "--ca", "ca", "--reason", "keyCompromise", cwd=folder)
    result = nlb("cert", "unrevoke", "alice", "--ca", "ca", cwd=folder)
    assert result.returncode == 1
    assert result.stderr == (
        "nlb: alice has been revoked for good (keyCompromise): only certificateHold can be taken back; issue a new one\n"
    )
