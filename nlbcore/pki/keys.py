"""Private keys: the kinds that are made, how they are kept (PKCS#8 PEM), and which digest signs with them.

An authority's key may be kept under a passphrase: AES-256 with PBKDF2, as `openssl pkcs8` writes it. A long passphrase
protects, not the count of rounds. Keys of leaves never are: who uses them has nobody to ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from nlbcore.errors import EXIT_PERMISSION
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.store import read
from nlbcore.pki.words import KEY_TYPES

ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
OLD_DIGESTS = {"md5": "MD5", "sha1": "SHA-1"}
"""Of signatures that can be forged, and what they are called."""
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Larger ones cost their verifiers more than they protect."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class Passphrases(Protocol):
    """Where the passphrases of keys come from; `passphrase.Passphrase` is one."""

    def of(self, path: Path) -> Iterable[bytes]:
        """What to try on this key, one after the other; what cannot be had is a PkiError."""


def new(kind: str) -> PrivateKey:
    if kind == "ec-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ec-p384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind in KEY_TYPES:
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa-")))
    raise BadValue("key_type", kind, f"one of {', '.join(KEY_TYPES)} is meant")


def kind_of(certificate: x509.Certificate) -> str:
    """The kind of a certificate's key, in the words of `KEY_TYPES`."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ec-p{key.key_size}"
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "unknown"


def digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """As strong as the key; Ed25519 brings its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()


def pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def is_encrypted(data: bytes) -> bool:
    return ENCRYPTED in data or b"Proc-Type: 4,ENCRYPTED" in data


def load(path: Path, certificate: x509.Certificate, passphrases: Passphrases | None = None) -> PrivateKey:
    """The private key of a certificate.

    Args:
        path: of the key
        certificate: whose key it must be
        passphrases: asked if the key is kept under one

    Raises:
        PkiError: it is not there, cannot be read, or is another certificate's; nothing of its text is quoted. Exit code
            77 where the passphrase is missing or wrong.
    """
    key = read_private(path, passphrases)
    if not matches(key, certificate):
        raise PkiError(f"{path} is not the key of {path.with_suffix('.crt')}: restore the pair from a backup")
    return key


def read_private(path: Path, passphrases: Passphrases | None = None) -> PrivateKey:
    """The private key in a file; see `load`."""
    data = read(path)
    try:
        key = _decrypted(path, data, passphrases) if is_encrypted(data) else load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PkiError(f"{path} is not a private key, or a damaged one: restore it from a backup") from None
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{path} is of a kind that cannot sign certificates: {', '.join(KEY_TYPES)} can")
    return key


def matches(key: PrivateKey, certificate: x509.Certificate | x509.CertificateSigningRequest) -> bool:
    return _public(key.public_key()) == _public(certificate.public_key())


def signed_by(key: Any, one: x509.Certificate | x509.CertificateSigningRequest) -> bool:
    """Whether the owner of the public key has made its signature, also with a digest of the nineties."""
    data = one.tbs_certificate_bytes if isinstance(one, x509.Certificate) else one.tbs_certrequest_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey):
            padding: Any = one.signature_algorithm_parameters or PKCS1v15()  # which `cryptography` says of no MD5
            key.verify(one.signature, data, padding, one.signature_hash_algorithm)  # type: ignore[arg-type]
        elif isinstance(key, ec.EllipticCurvePublicKey):
            algorithm: Any = one.signature_algorithm_parameters
            key.verify(one.signature, data, algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(one.signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        return False
    return True


def weakness(key: object) -> str | None:
    """Why nobody should certify this public key, which somebody else has made; None if it is good."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            return f"its RSA key has {key.key_size} bits: {MIN_RSA_BITS} is the least that clients and servers accept"
        if key.key_size > MAX_RSA_BITS:
            return f"its RSA key has {key.key_size} bits: {MAX_RSA_BITS} is the most that is signed here"
        exponent = key.public_numbers().e
        return (
            None if exponent >= 65537 else f"its RSA key has the exponent {exponent}: 65537 is the least that is safe"
        )
    if isinstance(key, ec.EllipticCurvePublicKey):
        known = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
        return None if known else f"its curve is {key.curve.name}: P-256, P-384 and P-521 are known everywhere"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    return "its key is of a kind that TLS does not sign with: RSA, EC and Ed25519 do"


def _decrypted(path: Path, data: bytes, passphrases: Passphrases | None) -> object:
    if passphrases is None:
        raise PkiError(f"{path} is kept under a passphrase, and none is given", EXIT_PERMISSION)
    for passphrase in passphrases.of(path):
        try:
            return load_pem_private_key(data, password=passphrase)
        except ValueError:
            continue
    raise PkiError(f"the passphrase is not that of {path}, or the file is damaged", EXIT_PERMISSION)


def _public(key: object) -> bytes:
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return made
