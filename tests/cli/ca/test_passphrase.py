"""A passphrase on the authority's keys: every command that needs one takes it from a file, the environment or the terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pexpect
import pytest

from nlbcore.pki.authority import Authority
from tests.support.balancer import NLB, nlb
from tests.support.programs import run

SECRET = "correct horse battery staple"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An authority whose keys are under the passphrase, which is in `secret`; and a request to sign."""
    Authority.create(tmp_path / "ca", passphrase=SECRET.encode())
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "wrong").write_text("wrong\n")
    nlb("cert", "csr", "request", "--profile", "client", cwd=tmp_path)
    return tmp_path


# In an order in which each finds what it needs.
COMMANDS = (
    ("cert", "issue", "alice", "--ca", "ca", "--profile", "client"),
    ("cert", "sign", "request.csr", "--ca", "ca", "--profile", "client"),
    ("cert", "renew", "alice", "--ca", "ca"),
    ("cert", "revoke", "alice", "--ca", "ca", "--reason", "certificateHold"),
    ("cert", "unrevoke", "alice", "--ca", "ca"),
    ("ca", "crl", "ca"),
    ("ca", "renew", "ca", "both"),
)


def test_every_command_that_needs_a_key(folder: Path) -> None:
    for command in COMMANDS:
        result = nlb(*command, "--passphrase-file", "secret", cwd=folder)
        assert (result.returncode, result.stderr) == (0, ""), command
        assert SECRET not in result.stdout
    for path in (folder / "ca").rglob("*.key"):
        assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert SECRET not in (folder / "ca/index").read_text()
    assert "  key_encrypted: yes\n" in nlb("ca", "show", "ca", cwd=folder).stdout
    trust = ("-CAfile", "ca/root.crt", "-untrusted", "alice.crt")
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", *trust, "alice.crt", cwd=folder)


def test_the_wrong_one_and_none(folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "ca").iterdir()}
    for command in (COMMANDS[0], COMMANDS[1], *COMMANDS[5:]):
        key = "root" if command[:2] == ("ca", "renew") else "intermediate"
        result = nlb(*command, "--passphrase-file", "wrong", cwd=folder)
        assert (result.returncode, result.stdout) == (77, ""), command
        assert result.stderr == f"nlb: the passphrase is not that of ca/{key}.key, or the file is damaged\n"
        result = nlb(*command, cwd=folder)
        assert (result.returncode, result.stdout) == (77, ""), command
        assert result.stderr.startswith(
            f"nlb: ca/{key}.key is kept under a passphrase, and there is no terminal to ask at: "
        )
    assert {path: path.read_bytes() for path in (folder / "ca").iterdir()} == before


def with_environment(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [NLB, "ca", "crl", "ca"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_from_the_environment(folder: Path) -> None:
    """A variable, or what systemd's LoadCredential= has put into the folder of the service."""
    assert with_environment(folder, NLB_CA_PASSPHRASE=SECRET).returncode == 0
    (folder / "credentials").mkdir()
    (folder / "credentials/ca-passphrase").write_text(SECRET)
    assert with_environment(folder, CREDENTIALS_DIRECTORY=str(folder / "credentials")).returncode == 0
    result = with_environment(folder, NLB_CA_PASSPHRASE="wrong", CREDENTIALS_DIRECTORY=str(folder / "credentials"))
    assert result.returncode == 77  # the variable counts


def at_terminal(folder: Path, *command: str) -> pexpect.spawn[str]:
    return pexpect.spawn(str(NLB), list(command), cwd=str(folder), encoding="utf-8", timeout=20, echo=False)


def ended(child: pexpect.spawn[str]) -> tuple[int | None, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before or ""


def test_asked_at_the_terminal(folder: Path) -> None:
    child = at_terminal(folder, "ca", "crl", "ca")
    child.expect_exact("Passphrase of ca/intermediate.key: ")
    child.sendline(SECRET)
    code, shown = ended(child)  # and not again for the root's, which is under the same
    assert code == 0, shown
    assert "ca/ca.crl: list 1" in shown
    assert SECRET not in shown


def test_a_new_authority_asks_twice(folder: Path) -> None:
    child = at_terminal(folder, "ca", "init", "new", "--encrypt")
    child.expect_exact("Passphrase for the keys of new: ")
    child.sendline("one")
    child.expect_exact("Repeat for confirmation: ")
    child.sendline("one")
    code, shown = ended(child)
    assert code == 0, shown
    assert "keys          under the passphrase" in shown
    run("openssl", "pkey", "-in", str(folder / "new/root.key"), "-passin", "pass:one", "-noout")
    result = nlb("ca", "init", "new", "--encrypt", cwd=folder)
    assert (result.returncode, result.stderr[:33]) == (1, "nlb: new is an authority already;")
    result = nlb("ca", "init", "third", "--encrypt", cwd=folder)
    assert result.returncode == 77
    assert not (folder / "third").exists()
    assert nlb("ca", "init", "third", "--passphrase-file", "secret", cwd=folder).returncode == 0
    assert (folder / "third/root.key").read_text().startswith("-----BEGIN ENCRYPTED")
