"""The bundle that browsers and keychains import (PKCS#12): a leaf, its key and the intermediate, under a password.

AES-256 with PBKDF2 and a SHA-256 MAC, as OpenSSL 3 writes it. An authority's key is in no bundle.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from nlbcore.pki.errors import PkiError
from nlbcore.pki.keys import PrivateKey
from nlbcore.pki.store import read

ITERATIONS = 2048
"""Rounds of the key derivation: OpenSSL's default. A long password protects, not the count."""


def bundle(name: str, key: PrivateKey, certificate: x509.Certificate, chain: x509.Certificate, password: str) -> bytes:
    """A PKCS#12 file.

    Args:
        name: what a keychain shows
        key: the leaf's private key
        certificate: the leaf
        chain: the intermediate, which the client sends beside the leaf
        password: not empty: macOS imports no bundle without one
    """
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ITERATIONS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [chain], encryption)


def read_password(path: Path) -> str:
    """The first line of a file, as `openssl -passin file:` takes it."""
    line = read(path).split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        password = line.decode()
    except UnicodeDecodeError:
        raise PkiError(f"{path}: the password is not UTF-8") from None
    if not password:
        raise PkiError(f"{path}: its first line, the password, is empty")
    return password
