"""A passphrase on the authority's keys: every command that needs one takes it from a file, the environment or the terminal,
and `nlb ca passphrase` changes it.
"""

from __future__ import annotations

import json
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


def with_environment(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `nlb ca crl ca`, or this command, ends with."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        command or (NLB, "ca", "crl", "ca"),
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


# -- nlb ca passphrase -------------------------------------------------------------------------------------------------

KEYS = ("root", "intermediate")


def opens(folder: Path, passphrase: str | None) -> bool:
    """Whether openssl reads both keys with this passphrase (None: without any), and they are those of their certificates."""
    for name in KEYS:
        key = f"{folder}/ca/{name}.key"
        if passphrase is None and "ENCRYPTED" in Path(key).read_text():
            return False
        done = run("openssl", "pkey", "-in", key, "-passin", f"pass:{passphrase or ''}", "-pubout", check=False)
        if done.returncode:
            return False
        assert done.stdout == run("openssl", "x509", "-in", f"{folder}/ca/{name}.crt", "-noout", "-pubkey").stdout
        assert Path(key).stat().st_mode & 0o777 == 0o600
    return True


def test_changed_removed_and_given(folder: Path) -> None:
    """From files; what has been issued stays good, and new ones are issued under the new one."""
    (folder / "new").write_text("neu und länger\n")
    change = ("ca", "passphrase", "ca")
    files = {"--passphrase-file": "secret", "--new-passphrase-file": "new"}
    result = nlb(*change, *(word for pair in files.items() for word in pair), cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "ca/intermediate.key: under the new passphrase\nca/root.key: under the new passphrase\n"
    assert opens(folder, "neu und länger")
    assert not opens(folder, SECRET)
    issue = ("cert", "issue", "alice", "--ca", "ca", "--profile", "client", "--force", "--passphrase-file")
    assert nlb(*issue, "secret", cwd=folder).returncode == 77
    assert nlb(*issue, "new", cwd=folder).returncode == 0
    result = nlb(*change, "--remove", "--passphrase-file", "new", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1] == "ca/root.key: under no passphrase"
    assert opens(folder, None)
    result = nlb(*change, "root", "--new-passphrase-file", "secret", cwd=folder)
    assert (result.returncode, result.stdout) == (0, "ca/root.key: under the new passphrase\n")
    assert "ENCRYPTED" not in (folder / "ca/intermediate.key").read_text()
    assert nlb(*change, "intermediate", "--new-passphrase-file", "secret", cwd=folder).returncode == 0
    assert opens(folder, SECRET)
    assert not [*(folder / "ca").glob(".*")]


def test_json(folder: Path) -> None:
    change = ("ca", "passphrase", "ca", "--json")
    result = nlb(*change, "root", "--passphrase-file", "secret", "--new-passphrase-file", "secret", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"changed": ["ca/root.key"], "key_encrypted": True}
    result = nlb(*change, "--remove", "--passphrase-file", "wrong", cwd=folder)
    assert (result.returncode, result.stdout) == (77, "")
    result = nlb(*change, "--remove", "--passphrase-file", "secret", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"changed": ["ca/intermediate.key", "ca/root.key"], "key_encrypted": False}
    assert opens(folder, None)


def test_changed_from_the_environment(folder: Path) -> None:
    (folder / "credentials").mkdir()
    credentials = {"CREDENTIALS_DIRECTORY": str(folder / "credentials")}
    change = (str(NLB), "ca", "passphrase", "ca")
    result = with_environment(folder, *change, NLB_CA_PASSPHRASE=SECRET, NLB_CA_NEW_PASSPHRASE="one", **credentials)
    assert (result.returncode, result.stderr) == (0, "")
    assert opens(folder, "one")
    (folder / "credentials/ca-passphrase").write_text("one")
    (folder / "credentials/ca-new-passphrase").write_text("two")
    assert with_environment(folder, *change, **credentials).returncode == 0
    assert opens(folder, "two")


def test_changed_at_the_terminal(folder: Path) -> None:
    child = at_terminal(folder, "ca", "passphrase", "ca")
    for question, answer in (
        ("Passphrase of ca/intermediate.key: ", SECRET),
        ("New passphrase for the keys of ca: ", "typed"),
        ("Repeat for confirmation: ", "typed"),
    ):
        child.expect_exact(question)
        child.sendline(answer)
    code, shown = ended(child)
    assert code == 0, shown
    assert SECRET not in shown
    assert "typed" not in shown
    assert opens(folder, "typed")


def test_not_changed(folder: Path) -> None:
    """The old one wrong or missing, no new one, nowhere to write it, another authority's key: all is as it was."""
    change = ("ca", "passphrase", "ca")
    new = ("--new-passphrase-file", "secret")
    before = {path: path.read_bytes() for path in (folder / "ca").iterdir()}
    for arguments, code, message in (
        (("--passphrase-file", "wrong", *new), 77, "the passphrase is not that of ca/intermediate.key, or the file is"),
        (
            new,
            77,
            "ca/intermediate.key is kept under a passphrase, and there is no terminal to ask at: --passphrase-file",
        ),
        (
            ("--remove",),
            77,
            "ca/intermediate.key is kept under a passphrase, and there is no terminal to ask at: --pass",
        ),
        (
            ("--passphrase-file", "secret"),
            77,
            (
                "a new passphrase is needed, and there is no terminal to ask at: --new-passphrase-file FILE, the variable"
                " NLB_CA_NEW_PASSPHRASE or systemd's LoadCredential=ca-new-passphrase:FILE gives it"
            ),
        ),
        (("--passphrase-file", "secret", "--new-passphrase-file", "none"), 1, "cannot read none: no such file or dir"),
        (("--remove", *new), 2, "--new-passphrase-file: with --remove there is no new passphrase"),
    ):
        result = nlb(*change, *arguments, cwd=folder)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert result.stderr.startswith(f"nlb: {message}")
    (folder / "ca").chmod(0o500)
    prefix = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.geteuid() == 0 else ()
    variables = {"NLB_CA_PASSPHRASE": SECRET, "NLB_CA_NEW_PASSPHRASE": "new"}
    result = with_environment(folder, *prefix, str(NLB), *change, **variables)
    assert (result.returncode, result.stdout) == (77, "")
    assert result.stderr == "nlb: cannot write ca/intermediate.key: permission denied\n"
    (folder / "ca").chmod(0o700)
    assert {path: path.read_bytes() for path in (folder / "ca").iterdir()} == before


def test_the_root_key_elsewhere(folder: Path) -> None:
    (folder / "ca/root.key").rename(folder / "root.key")
    arguments = ("--passphrase-file", "secret", "--new-passphrase-file", "wrong")
    result = nlb("ca", "passphrase", "ca", "root", *arguments, cwd=folder)
    assert (result.returncode, result.stderr) == (1, "nlb: cannot read ca/root.key: no such file or directory\n")
    result = nlb("ca", "passphrase", "ca", *arguments, cwd=folder)
    assert (result.returncode, result.stdout) == (0, "ca/intermediate.key: under the new passphrase\n")
    assert result.stderr == "nlb: ca/root.key is not there: it stays under the passphrase that it has\n"
    (folder / "root.key").rename(folder / "ca/root.key")
    # Under two passphrases now: each is asked for.
    child = at_terminal(folder, "ca", "passphrase", "ca", "--remove")
    for name, answer in (("intermediate", "wrong"), ("root", SECRET)):
        child.expect_exact(f"Passphrase of ca/{name}.key: ")
        child.sendline(answer)
    code, shown = ended(child)
    assert code == 0, shown
    assert opens(folder, None)
