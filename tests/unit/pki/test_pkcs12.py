"""PKCS#12: what openssl says is in it, and where the password comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki import pkcs12
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
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
