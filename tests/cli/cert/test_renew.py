"""`nlb cert renew`: one certificate for a person, all that are due for a timer."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request, Term
from tests.support.balancer import nlb
from tests.support.programs import run


def test_one(folder: Path) -> None:
    authority = Authority.open(folder / "ca")
    issued = authority.issue(Request("alice", "client"), out=folder, p12_password="x")
    key = (folder / "alice.key").read_bytes()
    result = nlb("cert", "renew", "alice", "--ca", "ca", "--days", "9", cwd=folder)
    assert result.returncode == 0
    assert result.stderr == (
        f"nlb: {folder}/alice.p12 still holds the certificate before: `nlb cert p12` makes a new bundle\n"
    )
    assert f"  follows {issued.entry.serial_hex}, which is good until 2" in result.stdout
    assert (folder / "alice.key").read_bytes() == key
    result = nlb("cert", "renew", "alice.crt", "--ca", "ca", "--rekey", "--out", "new", "--json", cwd=folder)
    assert json.loads(result.stdout)["files"] == {"certificate": "new/alice.crt", "private_key": "new/alice.key"}
    for place in (".", "new"):
        trust = ("-CAfile", "ca/root.crt", "-untrusted", f"{place}/alice.crt", f"{place}/alice.crt")
        run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", *trust, cwd=folder)


def test_all_for_a_timer(folder: Path) -> None:
    """Quiet when there is nothing to do; a line for each that is done; 1 if one could not be, after the others."""
    authority = Authority.open(folder / "ca")
    renew = ("cert", "renew", "--all", "--ca", "ca", "--before", "10d")
    result = nlb(*renew, cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    soon, later = Term(days=5), Term(days=20)
    for name, profile, term in (
        ("alice", "client", soon),
        ("bob", "client", soon),
        ("carol", "client", later),
        ("www", "server", soon),
    ):
        authority.issue(Request(name, profile, term=term), out=folder)
    (folder / "bob.crt").unlink()
    result = nlb(*renew, "--profile", "server", "--days", "30", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("www: renewed until 2")
    assert result.stdout.endswith(f" UTC, {folder}/www.crt\n")
    result = nlb(*renew, "--days", "30", "--json", cwd=folder)
    assert result.returncode == 1
    shown = json.loads(result.stdout)
    assert [one["name"] for one in shown["renewed"]] == ["alice"]
    assert [one["name"] for one in shown["failed"]] == ["bob"]
    assert result.stderr == f"nlb: bob: {shown['failed'][0]['error']}\n"
    assert result.stderr.startswith(
        f"nlb: bob: cannot read {folder}/bob.crt: no such file or directory: if it has been"
    )
    result = nlb(*renew, cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert [entry.name for entry in authority.due(dt.timedelta(days=10))] == ["bob"]


def test_all_below_a_revoked_intermediate(folder: Path) -> None:
    """Said once, and a failure for the timer to tell: nothing of this authority can be renewed."""
    authority = Authority.open(folder / "ca")
    for name in ("alice", "bob"):
        authority.issue(Request(name, "client", term=Term(days=5)), out=folder)
    authority.revoke("intermediate")
    result = nlb("cert", "renew", "--all", "--before", "10d", "--ca", "ca", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "nlb: the intermediate of ca has been revoked: nothing it signs is accepted\n"


def test_all_of_an_authority_that_ends_first(folder: Path) -> None:
    """Each run would issue the same again; the next renewal of the authority ends that."""
    authority = Authority.create(folder / "short", intermediate_days=5)
    authority.issue(Request("alice", "client"), out=folder)
    renew = ("cert", "renew", "--all", "--before", "10d", "--ca", "short")
    result = nlb(*renew, "--exec", "touch ran", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("nlb: alice: its authority ends with it, on ")
    assert result.stderr.endswith(", and so would a new one: `nlb ca renew short` comes first\n")
    assert not (folder / "ran").exists()
    assert nlb("ca", "renew", "short", cwd=folder).returncode == 0
    assert nlb(*renew, cwd=folder).stdout.startswith("alice: renewed until ")


def test_a_command_afterwards(folder: Path) -> None:
    """Once, and only if something has been renewed; of its failure it is said that the renewal stands."""
    authority = Authority.open(folder / "ca")
    for name in ("alice", "bob", "carol"):
        authority.issue(Request(name, "client", term=Term(days=5)), out=folder)
    (folder / "carol.crt").unlink()
    renew = ("cert", "renew", "--all", "--before", "10d", "--ca", "ca")
    program = ("--exec", "sh -c 'echo done; echo x >>ran'")
    result = nlb(*renew, "--days", "20", "--json", *program, cwd=folder)
    assert result.returncode == 1  # carol
    assert [one["name"] for one in json.loads(result.stdout)["renewed"]] == ["alice", "bob"]
    assert result.stderr.splitlines()[-1] == "done"
    assert (folder / "ran").read_text() == "x\n"
    assert nlb(*renew, *program, cwd=folder).returncode == 1
    assert (folder / "ran").read_text() == "x\n"  # nothing was renewed
    assert nlb("cert", "renew", "alice", "--ca", "ca", *program, cwd=folder).returncode == 0
    assert (folder / "ran").read_text() == "x\nx\n"
    for program, why in (
        (("--exec", "false"), "false has ended with 1"),
        (("--exec", "sh -c 'kill -9 $$'"), "sh -c 'kill -9 $$' has ended by signal 9"),
    ):
        result = nlb("cert", "renew", "alice", "--ca", "ca", *program, cwd=folder)
        assert result.returncode == 1
        assert "  follows " in result.stdout
        assert result.stderr == f"nlb: --exec: {why}; what has been renewed stays renewed\n"
    (folder / "odd").write_text("no program")
    (folder / "odd").chmod(0o755)
    result = nlb("cert", "renew", "alice", "--ca", "ca", "--exec", "./odd", cwd=folder)
    assert (result.returncode, result.stderr) == (1, "nlb: --exec: ./odd cannot be run: exec format error\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which certificate? Give its NAME, SERIAL or FILE, or --all with --before TIME"),
        (
            ("alice", "--all", "--before", "1d"),
            "which certificate? Give its NAME, SERIAL or FILE, or --all with --before TIME",
        ),
        (("--all",), "--all needs --before TIME, for example 10d"),
        (("alice", "--before", "1d"), "--before goes with --all"),
        (("alice", "--profile", "client"), "--profile goes with --all: a certificate's own does not change"),
        (("alice", "--key-type", "ed25519"), "--key-type goes with --rekey: the key stays as it is otherwise"),
        (("alice", "--exec", "sh 'x"), "--exec sh 'x: a quotation mark has no partner"),
        (("alice", "--exec", " "), "--exec is empty: name a command"),
        (("alice", "--exec", "no-such x"), "--exec no-such x: there is no command no-such"),
        (("alice", "--force"), "--force goes with --out: without it the old files are replaced anyway"),
        (
            ("--all", "--before", "soon"),
            '--before "soon" is not a span of time: a number with s, m, h, d or w behind it, as in "10d"',
        ),
        (
            ("alice", "--not-after", "soon"),
            '--not-after "soon" is not a date, for example 2027-01-31 or 2027-01-31T12:00Z',
        ),
    ],
)
def test_usage(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    result = nlb("cert", "renew", "--ca", "ca", *arguments, cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"nlb: {message}\n")
