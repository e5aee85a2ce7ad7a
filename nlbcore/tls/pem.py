"""PEM files taken apart: certificates, private keys and revocation lists, with a sentence for each way in which files go wrong."""

from __future__ import annotations

import binascii
import re
import warnings
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATE = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # the OID of PKCS#7 signedData, with its header
_PKCS7_HINT = "openssl pkcs7{} -print_certs -in FILE -out NEW takes its certificates out"
_LIST = frozenset({"X509 CRL", "CRL"})
_KEY = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"})


class BadFile(Exception):  # noqa: N818 - a finding in the making, not an error of the program
    """What is wrong with a file, to be read behind its name, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class DeniedFile(BadFile):
    """This user may not read it."""


class NothingThere(BadFile):
    """It is something else: there is none of what was looked for."""


def certificates(data: bytes, *, der: bool = False) -> tuple[list[x509.Certificate], list[BadFile]]:
    """All certificates of a PEM file, and what is wrong with those that cannot be read.

    Args:
        data: the file.
        der: it may be one or several in DER too.

    Raises:
        BadFile: there is none.
    """
    if data[:1] == b"\x30" and _SIGNED_DATA in data[:24]:
        raise NothingThere("is a PKCS#7 bundle", _PKCS7_HINT.format(" -inform DER"))
    if der and _is_der(data):
        wanted, load = _elements(data), x509.load_der_x509_certificate
    else:
        blocks = _blocks(data)
        wanted, load = [block for label, block in blocks if label in _CERTIFICATE], x509.load_pem_x509_certificate
        if not wanted:
            pkcs7 = _PKCS7_HINT.format("") if any(label == "PKCS7" for label, _ in blocks) else ""
            raise NothingThere(_nothing("certificate", data, blocks), pkcs7 or _der_hint(data, "x509"))
    good: list[x509.Certificate] = []
    bad: list[BadFile] = []
    for number, block in enumerate(wanted, 1):
        with warnings.catch_warnings():
            # What cryptography will refuse one day is a certificate that works today.
            warnings.simplefilter("ignore")
            try:
                certificate = load(block)
                certificate.public_key()
                list(certificate.extensions)
            except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
                which = f"certificate {number}" if len(wanted) > 1 else "the certificate"
                bad.append(BadFile(f"{which} is damaged or of a kind that cannot be read"))
            else:
                good.append(certificate)
    return good, bad


def private_key(data: bytes) -> PrivateKeyTypes:
    """The one private key of a PEM file.

    Raises:
        BadFile: there is none or more than one, it is encrypted, or it cannot be read. FILE in the hint is the file.
    """
    blocks = _blocks(data)
    wanted = [(label, block) for label, block in blocks if label in _KEY]
    if not wanted:
        if any(label == "OPENSSH PRIVATE KEY" for label, _ in blocks):
            raise BadFile("holds a key in OpenSSH's format", "ssh-keygen -p -m PKCS8 -f FILE converts it in place")
        raise BadFile(_nothing("private key", data, blocks), _der_hint(data, "pkey"))
    if len(wanted) > 1:
        raise BadFile(f"holds {len(wanted)} private keys; one is needed")
    label, block = wanted[0]
    if label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block:
        raise BadFile(
            "the private key is encrypted, and there is nobody to ask for the passphrase",
            "openssl pkey -in FILE -out NEW writes it without one",
        )
    try:
        return load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise BadFile("the private key is damaged or of a kind that cannot be read")


def revocation_lists(data: bytes) -> list[bytes]:
    """The DER of every revocation list in a file, PEM or DER.

    A list may have a million entries, so it is decoded here once and taken apart elsewhere.

    Raises:
        BadFile: there is none, or one is damaged.
    """
    if _is_der(data):
        return _elements(data)
    blocks = _blocks(data)
    wanted = [block for label, block in blocks if label in _LIST]
    if not wanted:
        raise NothingThere(_nothing("revocation list", data, blocks))
    return [_decoded(block, number if len(wanted) > 1 else 0) for number, block in enumerate(wanted, 1)]


def _is_der(data: bytes) -> bool:
    return data[:1] == b"\x30" and not _BEGIN.search(data)


def _elements(data: bytes) -> list[bytes]:
    """The elements of DER that stand one after the other. What does not fit is left to the parser: it is in the last one."""
    found, at = [], 0
    while at < len(data):
        size = data[at + 1] if at + 1 < len(data) else 0
        octets = size & 0x7F if size & 0x80 else 0
        if octets:
            size = int.from_bytes(data[at + 2 : at + 2 + octets], "big")
        end = at + 2 + octets + size
        if data[at] != 0x30 or octets > 4 or end > len(data):
            end = len(data)
        found.append(data[at:end])
        at = end
    return found


def _decoded(block: bytes, number: int) -> bytes:
    body = memoryview(block)[block.index(b"\n") : block.rindex(b"-----END ")]
    try:
        return binascii.a2b_base64(body)
    except (ValueError, binascii.Error):
        which = f"revocation list {number}" if number else "the revocation list"
        raise BadFile(f"{which} is damaged: not base64") from None


def _blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Label and text of each PEM block; what stands between them is comment.

    Raises:
        BadFile: a block has no end.
    """
    found: list[tuple[str, bytes]] = []
    position = 0
    while match := _BEGIN.search(data, position):
        end = b"-----END " + match[1] + b"-----"
        stop = data.find(end, match.end())
        if stop < 0:
            line = data.count(b"\n", 0, match.start()) + 1
            raise BadFile(f"the {match[1].decode()} that begins in line {line} has no end: the file is cut off")
        position = stop + len(end)
        found.append((match[1].decode(), data[match.start() : position] + b"\n"))
    return found


def _nothing(wanted: str, data: bytes, blocks: list[tuple[str, bytes]]) -> str:
    if blocks:
        holds = ", ".join(dict.fromkeys(label.lower() for label, _ in blocks))
        return f"holds no {wanted} but: {holds}"
    if data[:1] == b"\x30":
        return f"holds no PEM {wanted}; it looks like DER"
    return f"holds no PEM {wanted}"


def _der_hint(data: bytes, command: str) -> str:
    return f"openssl {command} -inform DER -in FILE -out NEW converts it" if data[:1] == b"\x30" else ""
