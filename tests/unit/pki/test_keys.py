"""Keys of every kind: made, kept, loaded, and refused with a sentence and without their text."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
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
        (_encrypted(), "KEY is kept under a passphrase, and none is given"),
        (b"secret", "KEY is not a private key, or a damaged one: restore it from a backup"),
        (b"", "KEY is not a private key, or a damaged one"),
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


def test_under_a_passphrase(tmp_path: Path) -> None:
    """As openssl writes and reads them, also in the older form with a header."""
    key = keys.new("rsa-2048")
    path = tmp_path / "key"
    path.write_bytes(keys.pem(key, b"one"))
    assert keys.is_encrypted(path.read_bytes())
    assert not keys.is_encrypted(keys.pem(key))
    run("openssl", "pkey", "-in", str(path), "-passin", "pass:one", "-noout")
    assert keys.matches(keys.read_private(path, Given(b"two", b"one")), request_for(key))
    run(
        *("openssl", "rsa", "-in", str(path), "-passin", "pass:one", "-aes256", "-passout", "pass:two"),
        "-traditional",
        "-out",
        f"{path}.old",
    )
    old = tmp_path / "key.old"
    assert b"Proc-Type: 4,ENCRYPTED" in old.read_bytes()
    assert keys.matches(keys.read_private(old, Given(b"two")), request_for(key))
    with pytest.raises(PkiError, match=r"the passphrase is not that of .*key.old, or the file is damaged") as caught:
        keys.read_private(old, Given(b"one"))
    assert caught.value.exit_code == 77


class Given:
    """Passphrases to try."""

    def __init__(self, *passphrases: bytes) -> None:
        self._passphrases = passphrases

    def of(self, path: Path) -> tuple[bytes, ...]:
        return self._passphrases


def request_for(key: keys.PrivateKey) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())


def test_weakness() -> None:
    """What is refused is in test_requests, key by key."""
    for kind in ("ec-p256", "ec-p384", "rsa-2048", "ed25519"):
        assert keys.weakness(keys.new(kind).public_key()) is None
    assert keys.weakness(rsa.RSAPublicNumbers(65537, (1 << 8200) + 1).public_key()) == (
        "its RSA key has 8201 bits: 8192 is the most that is signed here"
    )
