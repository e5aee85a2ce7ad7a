"""`nlb cert revoke`: the index and the lists know, openssl refuses, and what is not meant stays."""

from __future__ import annotations

import json
from pathlib import Path

from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
from tests.support.balancer import nlb
from tests.support.programs import run


def verdict(folder: Path, name: str) -> str:
    files = ["-CAfile", str(folder / "ca/chain.crt"), "-CRLfile", str(folder / "ca/ca.crl")]
    done = run("openssl", "verify", "-crl_check", *files, str(folder / f"{name}.crt"), check=False)
    return (done.stdout + done.stderr).decode()


def test_by_name_serial_and_file(folder: Path) -> None:
    authority = Authority.open(folder / "ca")
    issued = {name: authority.issue(Request(name, "client"), out=folder) for name in ("alice", "bob", "carol", "dave")}
    serial = issued["bob"].entry.serial_hex
    result = nlb("cert", "revoke", "alice", "--ca", "ca", "--reason", "KEYCOMPROMISE", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == f"alice: client certificate {issued['alice'].entry.serial_hex} revoked (keyCompromise)"
    assert second.startswith("ca/ca.crl: list 1, 1 revoked, the next is due 2")
    assert nlb("cert", "revoke", serial.lower(), "--ca", "ca", cwd=folder).returncode == 0
    result = nlb("cert", "revoke", "carol.crt", "--ca", "ca", "--json", cwd=folder)
    shown = json.loads(result.stdout)
    assert [one["name"] for one in shown["revoked"]] == ["carol"]
    assert shown["crl"].pop("next_update") > "2026"
    assert shown["crl"] == {"file": "ca/ca.crl", "number": 3, "revoked": 3, "written": True, "warning": None}
    for name in ("alice", "bob", "carol"):
        assert "certificate revoked" in verdict(folder, name)
    assert verdict(folder, "dave") == f"{folder}/dave.crt: OK\n"


def test_without_the_root_key(folder: Path) -> None:
    """Kept elsewhere: a client is revoked with a warning, the intermediate is not."""
    authority = Authority.open(folder / "ca")
    for name in ("alice", "bob"):
        authority.issue(Request(name, "client"), out=folder)
    authority.crl(20)
    (folder / "ca/root.key").unlink()
    result = nlb("cert", "revoke", "alice", "--ca", "ca", "--json", cwd=folder)
    warning = json.loads(result.stdout)["crl"]["warning"]
    assert (result.returncode, result.stderr) == (0, f"nlb: warning: {warning}\n")
    assert "the root's list stays as it is, good until 2" in warning
    assert "certificate revoked" in verdict(folder, "alice")
    assert verdict(folder, "bob") == f"{folder}/bob.crt: OK\n"
    result = nlb("cert", "revoke", "intermediate", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "nlb: cannot read ca/root.key: no such file or directory: only it can put the intermediate on the root's list or"
        " take it off; nothing has been done\n"
    )


def test_the_intermediate(folder: Path) -> None:
    """What that means for all below it is said."""
    result = nlb("cert", "revoke", "intermediate", "--ca", "ca", "--reason", "certificateHold", cwd=folder)
    assert result.returncode == 0
    assert result.stderr.startswith("nlb: warning: everything that the revoked intermediate has issued is refused too")
    back = nlb("cert", "unrevoke", "intermediate", "--ca", "ca", cwd=folder)
    assert (back.returncode, back.stderr) == (0, "")


def test_refused(folder: Path) -> None:
    Authority.open(folder / "ca").issue(Request("alice", "client"), out=folder)
    result = nlb("cert", "revoke", "alise", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (
        1,
        'nlb: "alise" is neither a name nor a serial number in ca/index, nor a file (did you mean "alice"?)\n',
    )
    result = nlb("cert", "revoke", "ca/root.crt", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (
        1,
        "nlb: ca/root.crt is not in ca/index: this authority has not issued it\n",
    )
    assert not (folder / "ca/ca.crl").exists()
    result = nlb("cert", "revoke", "alice", "--ca", "ca", "--reason", "boredom", cwd=folder)
    assert result.returncode == 2
    assert "'keyCompromise', 'cACompromise'" in result.stderr
    assert nlb("cert", "revoke", "alice", "--ca", "ca", cwd=folder).returncode == 0
    result = nlb("cert", "revoke", "alice", "--ca", "ca", cwd=folder)
    assert result.returncode == 1
    assert result.stderr.startswith("nlb: alice has been revoked already, on 2")
