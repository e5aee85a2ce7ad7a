"""PKCS#12: what openssl says is in it for each target, how the files of other programs are locked, and where the password comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki import index, issue, keys, pkcs12
from nlbcore.pki.authority import Authority
from nlbcore.pki.der import BadEncoding
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request
from tests.support.programs import run


@pytest.mark.parametrize("key_type", ["ec-p256", "rsa-2048", "ed25519"])
def test_modern_and_without_a_key_of_the_authority(tmp_path: Path, authority: Authority, key_type: str) -> None:
    password = "pässword 😀"
    issued = authority.issue(Request("alice", "client", key_type=key_type), out=tmp_path, p12_password=password)
    assert issued.p12 == tmp_path / "alice.p12"
    done = run("openssl", "pkcs12", "-info", "-in", str(issued.p12), "-passin", f"pass:{password}", "-noenc")
    told = done.stderr.decode()
    assert "MAC: sha256, Iteration 2048" in told
    assert told.count("PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256") == 2
    text = done.stdout.decode()
    assert text.count("BEGIN CERTIFICATE") == 2
    assert text.count("BEGIN PRIVATE KEY") == 1
    assert "friendlyName: alice" in text
    key = text[text.index("-----BEGIN PRIVATE KEY") :]
    assert key.split() == issued.private_key.read_text().split()


def test_legacy(tmp_path: Path, authority: Authority) -> None:
    """Triple DES and SHA-1, as openssl sees it; without -legacy, and so without its algorithms, it opens nothing."""
    made = _bundle(authority, "secret", "legacy")
    (tmp_path / "old.p12").write_bytes(made)
    command = ["openssl", "pkcs12", "-info", "-in", str(tmp_path / "old.p12"), "-passin", "pass:secret", "-noenc"]
    told = run(*command, "-legacy").stderr.decode()
    assert "MAC: sha1, Iteration 2048" in told
    assert told.count("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048") == 2
    found = pkcs12.protection(made)
    assert (str(found), found.legacy, len(found.keys)) == ("3DES, SHA-1 MAC, 2048 rounds", True, 1)


def test_what_a_target_cannot_have(authority: Authority) -> None:
    with pytest.raises(PkiError, match="a legacy bundle needs a password of ASCII characters"):
        _bundle(authority, "pässword", "legacy")
    with pytest.raises(BadValue, match="one of modern, legacy is meant"):
        _bundle(authority, "secret", "windows")


def _bundle(authority: Authority, password: str, target: str) -> bytes:
    key = keys.new("ec-p256")
    signer = issue.Signer(
        authority.intermediate, keys.load(authority.folder / "intermediate.key", authority.intermediate)
    )
    window = issue.window(index.now(), 3, authority.intermediate)
    certificate = issue.leaf(Request("alice", "client").checked(), key.public_key(), signer, window)
    return pkcs12.bundle("alice", key, certificate, [authority.intermediate], password, target)


@pytest.mark.parametrize(
    ("options", "told", "legacy"),
    [
        ("", "AES-256, SHA-256 MAC, 2048 rounds", False),
        ("-legacy", "RC2-40 and 3DES, SHA-1 MAC, 2048 rounds", True),
        ("-certpbe AES-128-CBC -keypbe NONE -macalg sha512", "AES-128 and none, SHA-512 MAC, 2048 rounds", False),
        ("-certpbe NONE -iter 5000", "AES-256, SHA-256 MAC, 5000 rounds", False),
        ("-nomac -noiter", "AES-256, no MAC, 1 rounds", False),
    ],
)
def test_how_the_bundles_of_openssl_are_locked(
    tmp_path: Path, authority: Authority, options: str, told: str, legacy: bool
) -> None:
    folder = authority.folder
    files = ["-in", str(folder / "root.crt"), "-inkey", str(folder / "root.key"), "-passout", "pass:x"]
    run("openssl", "pkcs12", "-export", *files, *options.split(), "-out", str(tmp_path / "made.p12"))
    found = pkcs12.protection((tmp_path / "made.p12").read_bytes())
    assert (str(found), found.legacy) == (told, legacy)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x30\x00", b"\x30\x06\x02\x01\x03\x30\x01\x06"])
def test_no_bundle(data: bytes) -> None:
    with pytest.raises(BadEncoding):
        pkcs12.protection(data)


def test_wrong_password(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path, p12_password="right")
    done = run("openssl", "pkcs12", "-in", str(issued.p12), "-passin", "pass:wrong", "-noenc", check=False)
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("data", "password"),
    [(b"secret", "secret"), (b"secret\nmore\n", "secret"), (b"secret\r\n", "secret"), ("ä ö\n".encode(), "ä ö")],
)
def test_read_password(tmp_path: Path, data: bytes, password: str) -> None:
    (tmp_path / "password").write_bytes(data)
    assert pkcs12.read_password(tmp_path / "password") == password


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"\nhunter2\n", "is empty"), (b"hunter2\xff", "is not UTF-8")],
    ids=["empty", "empty line", "latin"],
)
def test_no_password(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "password").write_bytes(data)
    with pytest.raises(PkiError, match=message) as caught:
        pkcs12.read_password(tmp_path / "password")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(PkiError, match=r"cannot read .*: no such file"):
        pkcs12.read_password(tmp_path / "nothing")
