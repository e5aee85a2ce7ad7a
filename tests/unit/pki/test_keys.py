"""Keys of every kind: made, kept, loaded, and refused with a sentence and without their text."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from nlbcore.pki import keys
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from tests.support.programs import run

OPENSSL = {"ec-p256": "prime256v1", "ec-p384": "secp384r1", "rsa-2048": "2048 bit", "ed25519": "ED25519 Private-Key"}


@pytest.mark.parametrize("kind", OPENSSL)
def test_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(keys.pem(keys.new(kind)))
    text = run("openssl", "pkey", "-in", str(path), "-noout", "-text").stdout.decode()
    assert OPENSSL[kind] in text
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")


def test_digest_is_as_strong_as_the_key() -> None:
    assert isinstance(keys.digest(keys.new("ec-p256")), hashes.SHA256)
    assert isinstance(keys.digest(keys.new("ec-p384")), hashes.SHA384)
    assert keys.digest(keys.new("ed25519")) is None


def test_unknown_kind() -> None:
    with pytest.raises(BadValue, match='key_type "dsa": one of ec-p256, '):
        keys.new("dsa")


def _encrypted() -> bytes:
    return keys.new("ec-p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def _dsa() -> bytes:
    return dsa.generate_private_key(1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_encrypted(), "KEY is encrypted, and there is nobody to ask for the passphrase; openssl pkey -in KEY "),
        (b"secret", "KEY is no private key, or a damaged one: restore it from a backup"),
        (b"", "KEY is no private key, or a damaged one"),
        (_dsa(), "KEY is of a kind that cannot sign certificates"),
        (keys.pem(keys.new("ec-p256")), "KEY is not the key of "),
        (None, "cannot read KEY: no such file or directory"),
    ],
    ids=["encrypted", "garbage", "empty", "dsa", "another", "missing"],
)
def test_load_refuses(authority: Authority, data: bytes | None, message: str) -> None:
    path = authority.folder / "intermediate.key"
    keys.load(path, authority.intermediate)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PkiError) as caught:
        keys.load(path, authority.intermediate)
    assert str(caught.value).startswith(message.replace("KEY", str(path)))
    assert "secret" not in str(caught.value)


def test_kind_of(tmp_path: Path, authority: Authority) -> None:
    assert keys.kind_of(authority.root) == "ec-p256"
    for kind in ("ec-p384", "ed25519", "rsa-2048"):
        assert keys.kind_of(Authority.create(tmp_path / kind, key_type=kind).root) == kind
