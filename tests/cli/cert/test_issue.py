"""`nlb cert issue`: files that openssl accepts, passwords from a file or the terminal, one line for every refusal."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb
from tests.support.programs import run
from tests.support.waiting import wait_until


def issue(folder: Path, name: str, profile: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "issue", name, "--ca", "ca", "--profile", profile, *arguments, cwd=folder)


def test_server(folder: Path) -> None:
    names = ("--dns", "localhost", "--dns", "bücher.example", "--ip", "127.0.0.1", "--ip", "::1")
    result = issue(folder, "www.example.com", "server", *names)
    assert (result.returncode, result.stderr) == (0, "")
    assert "  dns:www.example.com, dns:localhost, dns:xn--bcher-kva.example, ip:127.0.0.1, ip:::1\n" in result.stdout
    assert "  www.example.com.key  private key\n" in result.stdout
    path = folder / "www.example.com.crt"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / "www.example.com.key").stat().st_mode & 0o777 == 0o600
    assert path.read_text().count("BEGIN CERTIFICATE") == 2
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca/root.crt"), "-untrusted", str(path)]
    for name in ("-verify_hostname=localhost", "-verify_hostname=xn--bcher-kva.example", "-verify_ip=::1"):
        run(*verify, "-purpose", "sslserver", *name.split("="), str(path))
    assert run(*verify, "-purpose", "sslclient", str(path), check=False).returncode != 0


def test_every_option(folder: Path) -> None:
    (folder / "password").write_text("hunter2\n")
    arguments = ["--cn", "Alice Example", "--uri", "spiffe://example.com/alice", "--email", "alice@example.com"]
    arguments += ["--days", "3", "--key-type", "ed25519", "--out", "new", "--p12", "--password-file", "password"]
    arguments += ["--organization", "Example", "--organizational-unit", "Ops", "-C", "de", "--json"]
    arguments += ["--state", "Bayern", "--locality", "München", "--subject-email", "a@example.com"]
    result = issue(folder, "alice", "client", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert shown["files"] == {
        "certificate": "new/alice.crt",
        "private_key": "new/alice.key",
        "p12": "new/alice.p12",
    }
    assert shown["subject"] == "emailAddress=a@example.com,CN=Alice Example,OU=Ops,O=Example,L=München,ST=Bayern,C=DE"
    assert shown["sans"] == ["uri:spiffe://example.com/alice", "email:alice@example.com"]
    assert (shown["name"], shown["profile"], shown["status"], shown["clamped"]) == ("alice", "client", "valid", False)
    serial = run("openssl", "x509", "-in", str(folder / "new/alice.crt"), "-noout", "-serial").stdout.decode()
    assert serial == f"serial={shown['serial']}\n"
    done = run("openssl", "pkcs12", "-in", str(folder / "new/alice.p12"), "-passin", "pass:hunter2", "-noenc")
    assert done.stdout.count(b"BEGIN PRIVATE KEY") == 1
    assert (folder / "new").stat().st_mode & 0o777 == 0o700
    assert (folder / "new/alice.p12").stat().st_mode & 0o777 == 0o600
    for text in (result.stdout, (folder / "ca/index").read_text()):
        assert "hunter2" not in text
        assert "PRIVATE KEY" not in text


def test_a_bundle_for_older_importers(folder: Path) -> None:
    (folder / "password").write_text("hunter2\n")
    arguments = ("--p12", "--password-file", "password", "--target", "legacy")
    assert issue(folder, "alice", "client", *arguments).returncode == 0
    command = ["openssl", "pkcs12", "-info", "-legacy", "-in", "alice.p12", "-passin", "file:password", "-noout"]
    assert b"pbeWithSHA1And3-KeyTripleDES-CBC" in run(*command, cwd=folder).stderr
    (folder / "password").write_text("pässword\n")
    result = issue(folder, "bob", "client", *arguments)
    message = "a legacy bundle needs a password of ASCII characters: its readers disagree about all others"
    assert (result.returncode, result.stderr) == (1, f"nlb: {message}\n")
    assert not list(folder.glob("bob.*"))
    assert (folder / "ca/index").read_text().count('"issued"') == 2


def test_what_ends_with_its_authority_says_so(folder: Path) -> None:
    result = issue(folder, "alice", "client", "--days", "9999")
    assert "valid until" in result.stdout
    assert ", when its authority ends\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("x", ("--dns", "a_b"), '--dns "a_b" is not a host name: a label is 1 to 63 letters, digits and inner hyphens'),
        ("x", ("--dns", "10.0.0.1"), '--dns "10.0.0.1" is an IP address; --ip takes it'),
        ("x", ("--ip", "host"), '--ip "host" is not an IP address (for example 192.0.2.1 or ::1)'),
        (
            "x",
            ("--uri", "a b"),
            '--uri "a b" is not an absolute URI (for example spiffe://example.com/billing; other characters as %XX)',
        ),
        (
            "x",
            ("--email", "x"),
            '--email "x" is not an e-mail address (for example alice@example.com; ASCII before the @)',
        ),
        ("x", ("--days", "0"), '--days "0": 1 to 36500 days are possible'),
        ("x", ("--cn", ""), '--cn "" is empty'),
        ("a b", (), 'NAME "a b" is not a host name, and clients ask for one: --dns or --ip gives it'),
        ("x", ("--cn", "a b"), '--cn "a b" is not a host name, and clients ask for one: --dns or --ip gives it'),
        ("root", (), 'NAME "root": the authority\'s own files are called that; choose another name'),
        (
            "../x",
            (),
            'NAME "../x": it names the files, so it has no "/" and no "*", and begins with neither "." nor "-"',
        ),
        ("x", ("--password-file", "p"), "--password-file: the password is that of NAME.p12, and --p12 is not given"),
        ("x", ("--target", "legacy"), "--target: it is who imports NAME.p12, and --p12 is not given"),
        (
            "x",
            ("--p12",),
            "x.p12 needs a password, and there is no terminal to ask at: give --password-file FILE",
        ),
    ],
)
def test_bad_values(folder: Path, name: str, arguments: tuple[str, ...], message: str) -> None:
    result = issue(folder, name, "server", *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"nlb: {message}\n")
    assert [path.name for path in folder.iterdir()] == ["ca"]
    assert (folder / "ca/index").read_text().count("\n") == 1


def test_files_that_are_in_the_way_or_missing(folder: Path) -> None:
    assert issue(folder, "alice", "client").returncode == 0
    key = (folder / "alice.key").read_bytes()
    (folder / "empty").write_text("\n")
    (folder / "file").write_text("")
    for arguments, message in [
        ((), "alice.crt is there already; --force overwrites it"),
        (("--out", "file"), "cannot make the folder file: file exists"),
        (("--out", "x", "--p12", "--password-file", "nothing"), "cannot read nothing: no such file or directory"),
        (("--out", "x", "--p12", "--password-file", "empty"), "empty: its first line, the password, is empty"),
    ]:
        result = issue(folder, "alice", "client", *arguments)
        assert (result.returncode, result.stdout, result.stderr) == (1, "", f"nlb: {message}\n")
    assert (folder / "alice.key").read_bytes() == key
    assert issue(folder, "alice", "client", "--force").returncode == 0
    assert (folder / "alice.key").read_bytes() != key


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("index", "ca/index:1: the index is damaged; restore it from a backup"),
        ("intermediate.key", "ca/intermediate.key is not a private key, or a damaged one: restore it from a backup"),
        (
            "ca.toml",
            "ca/ca.toml is not a TOML file: Expected '=' after a key in a key/value pair (at line 1, column 8)",
        ),
    ],
)
def test_a_damaged_authority(folder: Path, file: str, message: str) -> None:
    (folder / "ca" / file).write_text("garbage\n")
    result = issue(folder, "alice", "client", "--out", "out")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"nlb: {message}\n")
    assert not list(folder.glob("out/*"))


def test_dates(folder: Path) -> None:
    dates = ("--not-before", "2027-01-31", "--not-after", "2027-02-28T12:00+01:00")
    result = issue(folder, "alice", "client", *dates)
    assert (result.returncode, result.stderr) == (0, "")
    assert "  valid from 2027-01-31 00:00 UTC\n  valid until 2027-02-28 11:00 UTC\n" in result.stdout
    shown = run("openssl", "x509", "-in", str(folder / "alice.crt"), "-noout", "-dates").stdout
    assert shown == b"notBefore=Jan 31 00:00:00 2027 GMT\nnotAfter=Feb 28 11:00:00 2027 GMT\n"
    result = issue(folder, "bob", "client", "--not-before", "2020-01-01", "--days", "9000")
    assert ", when its authority begins\n" in result.stdout
    for arguments, message in [
        (("--not-after", "2020-01-01"), '--not-after "2020-01-01T00:00:00Z": it would end before it begins, on 2'),
        (("--not-after", "soon"), '--not-after "soon" is not a date, for example 2027-01-31 or 2027-01-31T12:00Z'),
        (
            ("--days", "3", "--not-after", "2030-01-01"),
            '--days "3": how long, or until when (--not-after): one of the two',
        ),
        (("--not-before", "2099-01-01"), '--not-before "2099-01-01T00:00:00Z": its authority ends before, on 2'),
    ]:
        result = issue(folder, "x", "client", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"nlb: {message}")


def at_terminal(folder: Path, answers: list[str]) -> tuple[int, str]:
    """The command with a terminal as its stdin and stderr, and what it showed there; an answer for each question."""
    outer, inner = pty.openpty()
    shown = b""
    command = [str(NLB), "cert", "issue", "alice", "--ca", "ca", "--profile", "client", "--p12", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdin=inner, stderr=inner, stdout=subprocess.PIPE, text=True)
    os.close(inner)
    os.set_blocking(outer, False)

    def asked(count: int) -> bool:
        nonlocal shown
        with contextlib.suppress(OSError):  # nothing yet, or the other end is closed
            shown += os.read(outer, 4096)
        return shown.count(b": ") >= count

    try:
        for number, answer in enumerate(answers, 1):
            wait_until(functools.partial(asked, number), f"question {number}")
            os.write(outer, answer.encode() + b"\n")
        output, _ = process.communicate(timeout=20)
        asked(0)
    finally:
        process.kill()
        process.wait()
        os.close(outer)
    if process.returncode == 0:
        assert json.loads(output)["files"]["p12"] == "alice.p12"
    return process.returncode, shown.decode()


def test_the_password_is_asked_for_twice_and_not_shown(folder: Path) -> None:
    code, shown = at_terminal(folder, ["hunter2", "hunter2"])
    assert code == 0
    assert "Password for alice.p12: " in shown
    assert "hunter2" not in shown
    run("openssl", "pkcs12", "-in", str(folder / "alice.p12"), "-passin", "pass:hunter2", "-noout")
