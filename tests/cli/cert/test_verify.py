"""`nlb cert verify`: verdict and reason in the first line, one line for each check, and the exit codes of a monitoring plugin."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run

ROOT = ("--ca-file", "ca/root.crt")
LIST = ("--crl", "ca/ca.crl")


def verify(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "verify", *arguments, cwd=folder)


def test_good(issued: Path) -> None:
    result = verify(issued, "alice.crt", *ROOT, *LIST, "--purpose", "client", "--name", "alice")
    assert (result.returncode, result.stderr) == (0, "")
    first, *checks = result.stdout.splitlines()
    assert first.startswith("alice.crt: OK: CN=alice is good, ")
    assert [line.split()[:2] for line in checks] == [
        ["ok", about] for about in ("chain", "dates", "purpose", "names", "strength", "revocation", "revocation")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "first"),
    [
        (("alice.crt", *ROOT, "--warn-days", "99"), 1, "alice.crt: WARNING: expires on "),
        (("alice.crt", *ROOT, *LIST, "--warn-crl-days", "30"), 1, "alice.crt: WARNING: the next list of CN=Example Intermediate is"),
        (("mallory.crt", *ROOT, *LIST), 2, "mallory.crt: CRITICAL: revoked on "),
        (("mallory.crt", *ROOT), 0, "mallory.crt: OK: "),
        (("www.example.com.crt", *ROOT, "--purpose", "client"), 2, "www.example.com.crt: CRITICAL: it is for server, not"),
        (("www.example.com.crt", *ROOT, "--name", "example.com"), 2, "www.example.com.crt: CRITICAL: not valid for example.com,"),
        (("ca/intermediate.crt", *ROOT, *LIST), 0, "ca/intermediate.crt: OK: "),
        (("alice.p12", *ROOT, "--password-file", "password", "--purpose", "client"), 0, "alice.p12: OK: "),
        (("leaf.crt", *ROOT), 2, "leaf.crt: CRITICAL: CN=Example Intermediate, which has issued CN=alice, is neither in"),
        (("leaf.crt", *ROOT, "--chain", "ca/intermediate.crt"), 0, "leaf.crt: OK: "),
        (("leaf.crt", "--ca-file", "ca/intermediate.crt"), 0, "leaf.crt: OK: "),
        (("leaf.crt", *ROOT, "--ca-file", "ca/intermediate.crt", *LIST), 0, "leaf.crt: OK: "),
    ],
)  # fmt: skip
def test_verdicts(issued: Path, arguments: tuple[str, ...], code: int, first: str) -> None:
    whole = (issued / "alice.crt").read_text()
    (issued / "leaf.crt").write_text(whole[: whole.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    result = verify(issued, *arguments)
    assert (result.returncode, result.stderr) == (code, "")
    assert result.stdout.startswith(first)


def test_folders(issued: Path, tmp_path: Path) -> None:
    """The same files of a folder count as for a listener: PEM or DER, no backups; what holds nothing of use is told."""
    trust = tmp_path / "trust"
    trust.mkdir()
    run("openssl", "x509", "-in", str(issued / "ca/root.crt"), "-outform", "DER", "-out", str(trust / "root.cer"))
    shutil.copy(issued / "ca/intermediate.crt", trust / "intermediate.pem")
    for name in ("intermediate.crl", "root.crl"):
        shutil.copy(issued / "ca" / name, trust)
    (trust / "root.crt~").write_text("not looked at")
    folders = ("--ca-file", trust, "--crl", trust)
    for name, code in (("alice.crt", 0), ("mallory.crt", 2)):
        result = verify(issued, name, *folders)
        assert result.returncode == code
        assert (
            result.stderr
            == f"nlb: warning: {trust}/intermediate.pem: holds no revocation list but: certificate: it is not used\n"
        )
    (trust / "README").write_text("who is trusted\n")
    result = verify(issued, "alice.crt", "--ca-file", trust, "--crl", "ca/ca.crl")
    assert (result.returncode, result.stderr) == (
        0,
        f"nlb: warning: {trust}/README: holds no PEM certificate: it is not used\n",
    )
    assert verify(issued, "alice.crt", *ROOT, "--ca-file", trust, "--crl", "ca/ca.crl").returncode == 0


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("--ca-file", "", b"", "trust: there is no file in this folder"),
        ("--ca-file", "notes", b"x", "trust: no file in this folder can be used"),
        ("--ca-file", "a.crt", b"", "trust/a.crt: is empty"),
        ("--ca-file", "a.crt", b"x", "trust/a.crt: holds no PEM certificate"),
        ("--ca-file", "a.cer", b"\x30\x01\x00", "trust/a.cer: the certificate is damaged or of a kind that cannot be read"),
        ("--crl", "a.crt", b"x", "trust: there is no file in this folder"),
        ("--crl", "a.crl", b"\x30\x01\x00", "trust/a.crl: a revocation list is damaged or of a kind that cannot be read"),
    ],
)  # fmt: skip
def test_folders_that_are_no_use(
    issued: Path, tmp_path: Path, option: str, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "trust").mkdir()
    if name:
        (tmp_path / "trust" / name).write_bytes(content)
    result = nlb(
        "cert", "verify", issued / "alice.crt", "--ca-file", issued / "ca/root.crt", option, "trust", cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.splitlines()[-1] == f"nlb: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("alice.crt",), "Missing option '--ca-file'"),
        ((*ROOT,), "Missing argument 'FILE'"),
        (("alice.crt", *ROOT, "--purpose", "mail"), "Invalid value for '--purpose'"),
        (("alice.crt", *ROOT, "--warn-days", "-1"), "Invalid value for '--warn-days'"),
        (("alice.crt", *ROOT, "--nonsense"), "No such option '--nonsense'"),
        (("nothing.crt", *ROOT), "nlb: cannot read nothing.crt: no such file or directory\n"),
        (("alice.key", *ROOT), "nlb: alice.key holds no certificate\n"),
        (("alice.p12", *ROOT), "nlb: alice.p12 is closed: give --password-file FILE\n"),
        (
            ("alice.p12", *ROOT, "--password-file", "alice.crt"),
            "nlb: alice.p12: the password is wrong, or the file is damaged\n",
        ),
        (("alice.crt", "--ca-file", "ca/root.key"), "nlb: ca/root.key holds no certificate\n"),
        (("alice.crt", *ROOT, "--crl", "alice.crt"), "nlb: alice.crt holds no revocation list\n"),
        (("alice.crt", *ROOT, "--name", "a b"), 'nlb: --name "a b" is not a host name: a label is 1 to 63 letters,'),
        (("alice.crt", "--ca-file", "password"), "nlb: password holds no certificate, request, revocation list or key"),
    ],
)
def test_what_cannot_be_found_out_is_no_verdict(issued: Path, arguments: tuple[str, ...], message: str) -> None:
    result = verify(issued, *arguments)
    assert (result.returncode, result.stdout) == (3, "")
    assert message in result.stderr


def test_json(issued: Path) -> None:
    result = verify(issued, "mallory.crt", *ROOT, *LIST, "--json")
    assert (result.returncode, result.stderr) == (2, "")
    shown = json.loads(result.stdout)
    assert (shown["file"], shown["status"]) == ("mallory.crt", "critical")
    assert shown["reason"].startswith("revoked on ")
    assert shown["days_left"] in {29, 30}
    assert [one["subject"] for one in shown["chain"]] == ["CN=mallory", "CN=Example Intermediate", "CN=Example"]
    assert {"about": "purpose", "status": "ok", "text": "it is for client"} in shown["checks"]
