"""The bundle that browsers and keychains import (PKCS#12): a leaf, its key and the chain, under a password.

Two targets. `modern`: AES-256 with PBKDF2 and a SHA-256 MAC, as OpenSSL 3 writes it. `legacy`: Triple DES and a SHA-1 MAC,
which is all that older Windows, macOS and Android import; OpenSSL 3 does so with -legacy only.
An authority's key is in no bundle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from nlbcore.pki import der
from nlbcore.pki.der import BadEncoding, Node
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.keys import PrivateKey
from nlbcore.pki.store import read
from nlbcore.pki.words import P12_TARGETS

ITERATIONS = 2048
"""Rounds of the key derivation: OpenSSL's default. A long password protects, not the count."""

_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_SHROUDED_KEY = "1.2.840.113549.1.12.10.1.2"
_KEY = "1.2.840.113549.1.12.10.1.1"
_PBES2 = "1.2.840.113549.1.5.13"
_PBMAC1 = "1.2.840.113549.1.5.14"
_NAMES = {
    "1.2.840.113549.1.12.1.1": "RC4-128",
    "1.2.840.113549.1.12.1.2": "RC4-40",
    "1.2.840.113549.1.12.1.3": "3DES",
    "1.2.840.113549.1.12.1.4": "2-key 3DES",
    "1.2.840.113549.1.12.1.5": "RC2-128",
    "1.2.840.113549.1.12.1.6": "RC2-40",
    "1.2.840.113549.3.7": "3DES",
    "2.16.840.1.101.3.4.1.2": "AES-128",
    "2.16.840.1.101.3.4.1.22": "AES-192",
    "2.16.840.1.101.3.4.1.42": "AES-256",
    "1.3.14.3.2.26": "SHA-1",
    "1.2.840.113549.2.5": "MD5",
    "2.16.840.1.101.3.4.2.1": "SHA-256",
    "2.16.840.1.101.3.4.2.2": "SHA-384",
    "2.16.840.1.101.3.4.2.3": "SHA-512",
    _PBMAC1: "PBMAC1",
}


@dataclass(frozen=True)
class Protection:
    """How a PKCS#12 file is locked; to be seen without its password."""

    mac: str
    """The digest of the MAC, for example SHA-256; empty if there is none."""
    iterations: int
    """Rounds of the weakest key derivation in the file, the MAC's included."""
    most: int
    """Rounds of the longest."""
    ciphers: tuple[str, ...]
    """Of keys and certificates, each once; a part that is not encrypted counts as `none`."""
    keys: tuple[bytes, ...] = ()
    """Its encrypted private keys (PKCS#8, DER), as far as they lie open."""

    @property
    def legacy(self) -> bool:
        """Algorithms of the nineties somewhere."""
        old = {"3DES", "2-key 3DES", "RC2-40", "RC2-128", "RC4-40", "RC4-128"}
        return self.mac in {"SHA-1", "MD5"} or bool(old & set(self.ciphers))

    def __str__(self) -> str:
        mac = f"{self.mac} MAC" if self.mac else "no MAC"
        return f"{' and '.join(self.ciphers) or 'nothing encrypted'}, {mac}, {self.iterations} rounds"


@dataclass(frozen=True)
class Wish:
    """A PKCS#12 file that is to be written beside a new certificate; see `bundle`."""

    path: Path
    password: str = field(repr=False)
    target: str = P12_TARGETS[0]

    def bundle(self, name: str, key: PrivateKey, certificate: x509.Certificate, above: x509.Certificate) -> bytes:
        return bundle(name, key, certificate, [above], self.password, self.target)


def bundle(
    name: str,
    key: PrivateKey,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    password: str,
    target: str = P12_TARGETS[0],
) -> bytes:
    """A PKCS#12 file.

    Args:
        name: what a keychain shows
        key: the leaf's private key
        certificate: the leaf
        chain: the intermediates, which the client sends beside the leaf
        password: not empty: macOS imports no bundle without one
        target: who is to read it, one of `words.P12_TARGETS`

    Raises:
        BadValue: there is no such target, or its readers could not take that password.
    """
    if target not in P12_TARGETS:
        raise BadValue("target", target, f"one of {', '.join(P12_TARGETS)} is meant")
    legacy = target == "legacy"
    if legacy and not password.isascii():
        raise PkiError("a legacy bundle needs a password of ASCII characters: its readers disagree about all others")
    cipher = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC if legacy else pkcs12.PBES.PBESv2SHA256AndAES256CBC
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ITERATIONS)
        .key_cert_algorithm(cipher)
        .hmac_hash(hashes.SHA1() if legacy else hashes.SHA256())  # noqa: S303 - what the old ones read
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, list(chain) or None, encryption)


def protection(data: bytes) -> Protection:
    """How the file is locked.

    Raises:
        BadEncoding: it is no PKCS#12 file.
    """
    pfx = der.read(data)
    parts = pfx.children() if pfx.tag == der.SEQUENCE else []
    if len(parts) < 2 or parts[0].integer() != 3 or parts[1].child(0).oid() != _DATA:
        raise BadEncoding("no PKCS#12 file")
    mac, rounds = _mac(parts[2]) if len(parts) > 2 else ("", [])
    ciphers: list[str] = []
    keys: list[bytes] = []
    for content in der.read(_inner(parts[1])).children():
        kind = content.child(0).oid()
        if kind == _ENCRYPTED_DATA:
            cipher, count = _cipher(content.child(1).child(0).child(1).child(1))
            ciphers.append(cipher)
            rounds.append(count)
        elif kind == _DATA:
            for cipher, count, key in _bags(der.read(_inner(content))):
                ciphers.append(cipher)
                rounds.append(count)
                keys.append(key)
    used = [count for count in rounds if count]
    found = tuple(dict.fromkeys(ciphers)), tuple(key for key in keys if key)
    return Protection(mac, min(used, default=0), max(used, default=0), *found)


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


def _inner(content: Node) -> bytes:
    """What is in a ContentInfo of kind data."""
    return content.child(1).child(0).octets()


def _mac(data: Node) -> tuple[str, list[int]]:
    algorithm = data.child(0).child(0)
    kind = algorithm.child(0).oid()
    if kind == _PBMAC1:
        return "PBMAC1", [_derivation(algorithm.child(1).child(0))]
    return _NAMES.get(kind, kind), [data.child(2).integer() if len(data.children()) > 2 else 1]


def _bags(safe: Node) -> Iterator[tuple[str, int, bytes]]:
    """Cipher, rounds and encrypted key of what lies in a part that is not encrypted as a whole."""
    for bag in safe.children():
        kind = bag.child(0).oid()
        if kind == _SHROUDED_KEY:
            key = bag.child(1).child(0)
            yield *_cipher(key.child(0)), key.encoded
        elif kind == _KEY:
            yield "none", 0, b""


def _cipher(algorithm: Node) -> tuple[str, int]:
    """The cipher of an encryption by password, and the rounds of its key derivation."""
    kind = algorithm.child(0).oid()
    if kind != _PBES2:
        rounds = 0
        with contextlib.suppress(BadEncoding):  # an algorithm of a kind that is not known
            rounds = algorithm.child(1).child(1).integer()
        return _NAMES.get(kind, kind), rounds
    cipher = algorithm.child(1).child(1).child(0).oid()
    return _NAMES.get(cipher, cipher), _derivation(algorithm.child(1).child(0))


def _derivation(algorithm: Node) -> int:
    """The rounds of PBKDF2; of scrypt its cost."""
    return algorithm.child(1).child(1).integer()
