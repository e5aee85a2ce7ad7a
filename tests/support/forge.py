"""Certificates that no library makes: every byte of subject and subjectAltName is the test's, signed by a real authority or
by nobody.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.certs import Issued, new_key, pem, write_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.certs import Authority

    Attribute = tuple[str, int, bytes]  # "cn", "o" or "ou"; tag of the string type; its bytes
    Name = tuple[str, bytes]  # "dns", "uri", "email", "ip" or "other"; its bytes

UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP, BITS = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E, 0x03
_ATTRIBUTES = {"cn": 3, "o": 10, "ou": 11, "title": 12}
_NAMES = {"other": 0xA0, "email": 0x81, "dns": 0x82, "uri": 0x86, "ip": 0x87}
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_CLIENT_AUTH = bytes.fromhex("301306 03551d25 04 0c 300a 06082b06010505070302")
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (FIPS 186-5, SP 800-186)."""
_number = itertools.count(1)


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    content = b"".join(contents)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def subject(attributes: Sequence[Attribute], *, one_set: bool = False) -> bytes:
    """A Name: an RDN for each attribute, or one for all."""
    pairs = [
        tlv(0x30, tlv(0x06, b"\x55\x04", bytes([_ATTRIBUTES[kind]])), tlv(tag, value))
        for kind, tag, value in attributes
    ]
    return tlv(0x30, tlv(0x31, *pairs)) if one_set and pairs else tlv(0x30, *(tlv(0x31, pair) for pair in pairs))


def alternative_names(names: Sequence[Name], *, critical: bool = False) -> bytes:
    """A subjectAltName extension."""
    value = tlv(0x30, *(tlv(_NAMES[kind], value) for kind, value in names))
    return tlv(0x30, tlv(0x06, b"\x55\x1d\x11"), *([tlv(0x01, b"\xff")] if critical else ()), tlv(0x04, value))


def certificate(
    attributes: Sequence[Attribute] = (),
    names: Sequence[Name] | None = None,
    *,
    one_set: bool = False,
    serial: bytes = b"\x01",
    key: bytes = tlv(0x30, tlv(0x30, b"\x06\x01\x2a"), tlv(0x03, b"\0\0")),
    extensions: Sequence[bytes] = (),
    whole_subject: bytes | None = None,
) -> bytes:
    """A certificate in DER that nobody has signed; `names` None leaves the extension out."""
    more = [*extensions, *([alternative_names(names)] if names is not None else ())]
    return tlv(
        0x30,
        _tbs(subject(attributes, one_set=one_set) if whole_subject is None else whole_subject, serial, key, more),
        _ECDSA_SHA256,
        tlv(0x03, b"\0"),
    )


def _tbs(
    whole_subject: bytes, serial: bytes, key: bytes, extensions: Sequence[bytes], issuer: bytes = tlv(0x30)
) -> bytes:
    dates = tlv(0x30, tlv(0x17, b"200101000000Z"), tlv(0x17, b"490101000000Z"))
    parts = [tlv(0xA0, tlv(0x02, b"\x02")), tlv(0x02, serial), _ECDSA_SHA256, issuer, dates, whole_subject, key]
    if extensions:
        parts.append(tlv(0xA3, tlv(0x30, *extensions)))
    return tlv(0x30, *parts)


def client(
    authority: Authority,
    attributes: Sequence[Attribute],
    names: Sequence[Name] | None = None,
    *,
    one_set: bool = False,
    serial: bytes | None = None,
) -> Issued:
    """A client certificate that `authority` has signed, whatever is in it."""
    key = new_key()
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    extensions = [_CLIENT_AUTH, *([alternative_names(names)] if names is not None else ())]
    number = serial or b"\x7f" + x509.random_serial_number().to_bytes(20, "big")[:15]
    issuer = authority.name.public_bytes()
    tbs = _tbs(subject(attributes, one_set=one_set), number, public, extensions, issuer)
    signature = authority.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    made = x509.load_der_x509_certificate(tlv(0x30, tbs, _ECDSA_SHA256, tlv(0x03, b"\0", signature)))
    stem = authority.folder / f"forged-{next(_number)}"
    path, key_path = stem.with_suffix(".crt"), stem.with_suffix(".key")
    path.write_bytes(b"".join(pem(one) for one in (made, *authority.chain())))
    write_key(key_path, key)
    return Issued(made, key, path, key_path)


def twin(issued: Issued) -> Issued:
    """The other certificate with the same contents and a signature that is as valid: r, n - s in place of r, s."""
    r, s = decode_dss_signature(issued.certificate.signature)
    signature = tlv(0x03, b"\0", encode_dss_signature(r, _ORDER - s))
    made = x509.load_der_x509_certificate(tlv(0x30, issued.certificate.tbs_certificate_bytes, _ECDSA_SHA256, signature))
    path = issued.path.with_suffix(".twin")
    path.write_bytes(pem(made))
    return replace(issued, certificate=made, path=path)
