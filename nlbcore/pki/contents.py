"""What is in a file of certificates, whoever has written it: PEM with anything around it, DER, PKCS#7 or PKCS#12.

A file can be hostile. What cannot be read is a `Damaged` among the parts, and no more than `MAX_SIZE` is read.
"""

from __future__ import annotations

import binascii
import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs7, pkcs12

from nlbcore.dn import dn
from nlbcore.pki import der
from nlbcore.pki.errors import PkiError
from nlbcore.pki.pkcs12 import Protection, protection
from nlbcore.pki.store import failure

MAX_SIZE = 64 << 20
"""Bytes: a revocation list of a million entries has 40 MB."""

MAX_PARTS = 10_000
"""Parts of a PEM file; the biggest bundle of authorities has some hundreds."""
MAX_ROUNDS = 10_000_000
"""Of a PKCS#12 file's key derivation, seconds of work; nobody writes more than a tenth of it."""

STDIN = Path("-")

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")
UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType),
)
"""What `cryptography` raises for things that are damaged, or of a kind that it does not know."""


@dataclass(frozen=True)
class Key:
    """A private key; `private` is None while it is encrypted."""

    private: Any
    encrypted: bool = False
    old_encryption: bool = False
    """Encrypted the way of the nineties, with MD5 and one round."""
    pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Damaged:
    """Something that cannot be read."""

    what: str


@dataclass(frozen=True)
class Bundle:
    """What is special about a PKCS#12 file."""

    protection: Protection
    opened: bool
    empty_password: bool = False
    name: str = ""
    keys: tuple[Any, ...] = ()
    """Its private keys: PKCS#12 has room for more than one, most programs see the first."""


Part = x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList | Key | Damaged
Kind = TypeVar("Kind", bound=Part)


@dataclass(frozen=True)
class Contents:
    """A file's parts in its order."""

    path: Path
    form: str
    parts: tuple[Part, ...]
    bundle: Bundle | None = None

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [part for part in self.parts if isinstance(part, kind)]

    @property
    def certificates(self) -> list[x509.Certificate]:
        return self.of(x509.Certificate)

    @property
    def keys(self) -> list[Any]:
        """The private keys that can be used."""
        loose = [key.private for key in self.of(Key) if key.private is not None]
        return [*loose, *(self.bundle.keys if self.bundle else ())]


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Without the warnings for what `cryptography` will refuse one day: such a certificate works today."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(path: Path, password: Callable[[], str] | None = None) -> Contents:
    """What is in the file; `-` is the standard input.

    Args:
        path: of the file
        password: asked for a PKCS#12 file's, if it has one; without it such a file stays closed

    Raises:
        PkiError: it cannot be read, there is nothing of the kind in it, or the password is wrong.
    """
    data = _read(path)
    with tolerant():
        if _BEGIN.search(data):
            parts = tuple(islice(_pem_parts(data), MAX_PARTS + 1))
            if len(parts) > MAX_PARTS:
                raise PkiError(f"{_called(path)} holds more than {MAX_PARTS:,} certificates, keys or lists")
            return Contents(path, "PEM", parts)
        for form, reader in _BINARY:
            try:
                return Contents(path, form, tuple(reader(data)))
            except UNREADABLE:
                continue
        try:
            locked = protection(data)
        except der.BadEncoding:
            pass
        else:
            return _open_bundle(path, data, locked, password)
    raise PkiError(f"{_called(path)} holds no certificate, request, revocation list or key: neither PEM nor DER")


def unlock(path: Path, key: Key, passphrase: Callable[[], str]) -> Any:
    """The private key of an encrypted one.

    Raises:
        PkiError: the passphrase is wrong.
    """
    try:
        return load_pem_private_key(key.pem, passphrase().encode())
    except UNREADABLE:
        raise PkiError(f"{path}: the passphrase of the private key is wrong, or the file is damaged") from None


def _read(path: Path) -> bytes:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise failure("read", path, error) from None
    if len(data) > MAX_SIZE:
        raise PkiError(f"{_called(path)} is larger than {MAX_SIZE >> 20} MB: no file of certificates")
    if not data.strip():
        raise PkiError(f"{_called(path)} is empty")
    return data


def _called(path: Path) -> str:
    return "the standard input" if path == STDIN else str(path)


# -- PEM --------------------------------------------------------------------------------------------------------------


def _pem_parts(data: bytes) -> Iterator[Part]:
    """Each block, in time that grows with the file and no faster: a block ends before the next one begins."""
    match, line, counted = _BEGIN.search(data), 1, 0
    while match:
        following = _BEGIN.search(data, match.end())
        end = b"-----END " + match[1] + b"-----"
        stop = data.find(end, match.end(), following.start() if following else len(data))
        if stop < 0:
            line, counted = line + data.count(b"\n", counted, match.start()), match.start()
            yield Damaged(f"the {match[1].decode()} that begins in line {line} has no end")
        else:
            yield from _pem_block(match[1].decode(), data[match.start() : stop + len(end)] + b"\n")
        match = following


def _pem_block(label: str, block: bytes) -> Iterator[Part]:
    kind = label.replace("X509 ", "").replace("TRUSTED ", "").replace("NEW ", "")
    if kind.endswith("PRIVATE KEY"):
        yield _pem_key(kind, block)
        return
    readers: dict[str, tuple[Callable[[bytes], Any], str]] = {
        "CERTIFICATE": (x509.load_pem_x509_certificate, "CERTIFICATE"),
        "CERTIFICATE REQUEST": (x509.load_pem_x509_csr, "CERTIFICATE REQUEST"),
        "CRL": (x509.load_pem_x509_crl, "X509 CRL"),
        "PKCS7": (pkcs7.load_pem_pkcs7_certificates, "PKCS7"),
        "CMS": (pkcs7.load_pem_pkcs7_certificates, "PKCS7"),
    }
    if kind not in readers:
        return  # parameters, public keys, sessions: nothing that is looked for
    if label.startswith("TRUSTED "):
        yield _trusted(block)
        return
    reader, plain = readers[kind]
    block = block.replace(f"-----BEGIN {label}".encode(), f"-----BEGIN {plain}".encode())
    block = block.replace(f"-----END {label}".encode(), f"-----END {plain}".encode())
    try:
        read = reader(block)
        for one in read if isinstance(read, list) else [read]:
            yield _looked_at(one)
    except UNREADABLE:
        yield Damaged(f"a {kind.lower()} is damaged or of a kind that cannot be read")


def _trusted(block: bytes) -> Part:
    """OpenSSL's own form: a certificate, and behind it what it is trusted for."""
    try:
        body = binascii.a2b_base64(block[block.index(b"\n") : block.rindex(b"-----END ")])
        return _tolerant(x509.load_der_x509_certificate(der.read(body).encoded))
    except UNREADABLE:
        return Damaged("a certificate is damaged or of a kind that cannot be read")


def _pem_key(kind: str, block: bytes) -> Key | Damaged:
    old = b"Proc-Type: 4,ENCRYPTED" in block
    if old or kind == "ENCRYPTED PRIVATE KEY":
        return Key(None, encrypted=True, old_encryption=old, pem=block)
    if kind == "OPENSSH PRIVATE KEY":
        return Damaged("a key in OpenSSH's format; `ssh-keygen -p -m PKCS8 -f FILE` converts it in place")
    try:
        return Key(load_pem_private_key(block, password=None), pem=block)
    except UNREADABLE:
        return Damaged("a private key is damaged or of a kind that cannot be read")


# -- DER --------------------------------------------------------------------------------------------------------------


def _looked_at(part: Any) -> Any:
    """The part, after what is read when it is needed has been read once."""
    if isinstance(part, x509.Certificate | x509.CertificateSigningRequest):
        part.public_key()
        dn(part.subject)
    if isinstance(part, x509.Certificate | x509.CertificateRevocationList):
        dn(part.issuer)
    list(part.extensions)
    return part


def _one(reader: Callable[[bytes], Any], data: bytes) -> Iterator[Part]:
    return iter([_looked_at(reader(data))])


_BINARY: tuple[tuple[str, Callable[[bytes], Iterator[Part]]], ...] = (
    ("DER", partial(_one, x509.load_der_x509_certificate)),
    ("DER", partial(_one, x509.load_der_x509_crl)),
    ("DER", partial(_one, x509.load_der_x509_csr)),
    ("DER", lambda data: iter([Key(load_der_private_key(data, password=None))])),
    ("PKCS#7", lambda data: map(_looked_at, pkcs7.load_der_pkcs7_certificates(data))),
)


def _open_bundle(path: Path, data: bytes, locked: Protection, password: Callable[[], str] | None) -> Contents:
    """A PKCS#12 file, opened without a password if that is possible."""
    if locked.most > MAX_ROUNDS:
        raise PkiError(f"{path}: to try a password on it takes {locked.most:,} rounds; that is no file for use")
    for nothing in (b"", None):
        try:
            opened = pkcs12.load_pkcs12(data, nothing)
        except UNREADABLE:
            continue
        return _bundle_contents(path, opened, locked, b"")
    if password is None:
        return Contents(path, "PKCS#12", (), Bundle(locked, opened=False))
    secret = password().encode()
    try:
        opened = pkcs12.load_pkcs12(data, secret)
    except UnsupportedAlgorithm:
        raise PkiError(f"{path}: it is locked in a way that cannot be opened here: {locked}") from None
    except UNREADABLE:
        raise PkiError(f"{path}: the password is wrong, or the file is damaged") from None
    return _bundle_contents(path, opened, locked, secret)


def _bundle_contents(path: Path, opened: Any, locked: Protection, secret: bytes) -> Contents:
    own = [opened.cert] if opened.cert is not None else []
    every = [*own, *opened.additional_certs]
    name = next((one.friendly_name for one in every if one.friendly_name), b"")
    keys = [] if opened.key is None else [opened.key]
    for encrypted in locked.keys if len(locked.keys) > 1 else ():  # `opened` has the first of them only
        with contextlib.suppress(*UNREADABLE):
            key = load_der_private_key(encrypted, secret)
            if key.public_key() not in [one.public_key() for one in keys]:
                keys.append(key)
    parts = [_tolerant(one.certificate) for one in every]
    bundle = Bundle(
        locked, opened=True, empty_password=not secret, name=name.decode(errors="replace"), keys=tuple(keys)
    )
    return Contents(path, "PKCS#12", tuple(parts), bundle)


def _tolerant(certificate: x509.Certificate) -> Part:
    try:
        _looked_at(certificate)
    except UNREADABLE:
        return Damaged("a certificate is damaged or of a kind that cannot be read")
    return certificate
