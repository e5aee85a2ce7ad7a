"""Private keys: the kinds that are made, how they are kept (PKCS#8 PEM), and which digest signs with them."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.store import read
from nlbcore.pki.words import KEY_TYPES

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


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


def pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load(path: Path, certificate: x509.Certificate) -> PrivateKey:
    """The private key of an authority's certificate.

    Raises:
        PkiError: it is not there, cannot be read, or is another certificate's; nothing of its text is quoted.
    """
    data = read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        hint = f"openssl pkey -in {path} -out NEW writes it without one"
        raise PkiError(f"{path} is encrypted, and there is nobody to ask for the passphrase; {hint}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError(f"{path} is no private key, or a damaged one: restore it from a backup") from None
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{path} is of a kind that cannot sign certificates: {', '.join(KEY_TYPES)} can")
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise PkiError(f"{path} is not the key of {path.with_suffix('.crt')}: restore the pair from a backup")
    return key


def _public(key: object) -> bytes:
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return made
