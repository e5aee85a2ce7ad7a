"""Client certificates as the engine sees them: dates of both kinds, who is never a client, and equal ones are one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from tests.support.certs import Pki

WEAK, PURPOSE, NAMELESS = 66, 26, 84


@pytest.fixture
def identity(door: Any) -> Callable[[bytes], tuple[int, int, int, bytes, bytes]]:
    """`identity(DER)`: not_before, not_after, fault, DER, SHA-256."""

    def look(der: bytes) -> tuple[int, int, int, bytes, bytes]:
        # Read by OpenSSL itself: `cryptography` refuses some of these.
        bio = _openssl.ffi.gc(_openssl.lib.BIO_new_mem_buf(der, len(der)), _openssl.lib.BIO_free)
        read = _openssl.lib.d2i_X509_bio(bio, _openssl.ffi.NULL)
        assert read != _openssl.ffi.NULL
        held = _openssl.ffi.gc(read, _openssl.lib.X509_free)
        return door.identity(int(_openssl.ffi.cast("uintptr_t", held)))  # type: ignore[no-any-return]

    return look


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Any:
    return ec.generate_private_key(curve())


@cache
def rsa_key(bits: int) -> Any:
    return rsa.generate_private_key(65537, bits)


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


START, END = utc(2020, 1, 1), utc(2030, 1, 1)


def certificate(
    key: Any = None,
    *,
    digest: Any = None,
    start: dt.datetime = START,
    end: dt.datetime = END,
    ca: bool | None = False,
    subject: str = "x",
    san: str = "",
    **sign: Any,
) -> bytes:
    key = key or ec_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=True)
    plain = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(key, None if plain else digest or hashes.SHA256(), **sign).public_bytes(Encoding.DER)


def test_what_is_kept(identity: Callable[[bytes], Any]) -> None:
    der = certificate()
    not_before, not_after, fault, kept, digest = identity(der)
    assert kept == der
    assert digest == x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256())
    assert (not_before, not_after, fault) == (1577836800, 1893456000, 0)


@pytest.mark.parametrize(
    "moment",
    [
        utc(1950, 1, 1),
        utc(1969, 12, 31, 23, 59, 59),
        utc(1970, 1, 1),
        utc(1999, 12, 31, 23, 59, 59),
        utc(2000, 2, 29, 12, 34, 56),
        utc(2038, 1, 19, 3, 14, 8),
        utc(2049, 12, 31, 23, 59, 59),
        utc(2050, 1, 1),
        utc(2100, 3, 1, 0, 0, 1),
        utc(9999, 12, 31, 23, 59, 59),
    ],
    ids=str,
)
def test_dates(identity: Callable[[bytes], Any], moment: dt.datetime) -> None:
    """UTCTime to the end of 2049, GeneralizedTime after that."""
    seconds = int((moment - utc(1970, 1, 1)).total_seconds())
    der = certificate(start=moment, end=utc(9999, 12, 31, 23, 59, 59))
    assert (b"\x17\x0d" + moment.strftime("%y%m%d%H%M%SZ").encode() in der) == (moment.year < 2050)
    assert identity(der)[:2] == (seconds, 253402300799)


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (lambda: rsa_key(1024), WEAK),
        (lambda: rsa_key(2047), WEAK),
        (lambda: rsa_key(2048), 0),
        (lambda: ec_key(ec.SECP192R1), WEAK),
        (lambda: ec_key(ec.SECP224R1), 0),
        (lambda: ec_key(ec.SECP384R1), 0),
        (lambda: dsa.generate_private_key(1024), WEAK),
        (lambda: dsa.generate_private_key(2048), WEAK),
        (ed25519.Ed25519PrivateKey.generate, 0),
        (ed448.Ed448PrivateKey.generate, 0),
    ],
    ids=["rsa-1024", "rsa-2047", "rsa-2048", "p-192", "p-224", "p-384", "dsa-1024", "dsa-2048", "ed25519", "ed448"],
)
def test_keys(identity: Callable[[bytes], Any], key: Callable[[], Any], fault: int) -> None:
    assert identity(certificate(key()))[2] == fault


def test_certificates_of_authorities(identity: Callable[[bytes], Any]) -> None:
    assert identity(certificate(ca=True))[2] == PURPOSE
    assert identity(certificate(ca=None))[2] == 0


def test_keys_for_signing_certificates(identity: Callable[[bytes], Any], pki: Pki) -> None:
    """keyCertSign, whatever the key may do beside it."""
    assert identity(pki.root.client("plain").der)[2] == 0
    assert identity(pki.root.client("signs", signs=True).der)[2] == PURPOSE


def test_names(identity: Callable[[bytes], Any]) -> None:
    assert identity(certificate(subject=""))[2] == NAMELESS
    assert identity(certificate(subject="", san="a.example"))[2] == 0


@pytest.mark.parametrize(
    ("digest", "fault"), [(hashes.SHA256(), 0), (hashes.SHA384(), 0), (hashes.SHA512(), 0), (hashes.SHA224(), 0)]
)
def test_signatures(identity: Callable[[bytes], Any], digest: Any, fault: int) -> None:
    assert identity(certificate(digest=digest))[2] == fault
    assert identity(certificate(rsa_key(2048), digest=digest))[2] == fault
    pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    assert identity(certificate(rsa_key(2048), digest=digest, rsa_padding=pss))[2] == fault


def test_sha_1_and_version_1(identity: Callable[[bytes], Any], pki: Pki) -> None:
    """Made by the openssl command: `cryptography` makes none such."""
    assert identity(pki.root.openssl_client("sha1", digest="sha1").der)[2] == WEAK
    assert identity(pki.root.openssl_client("v1", version_1=True).der)[2] == PURPOSE
    assert identity(pki.root.openssl_client("good").der)[2] == 0


def test_pss_over_sha_1(identity: Callable[[bytes], Any]) -> None:
    """The hash stands in the parameters, and where there are none it is SHA-1 (RFC 4055, 3.1)."""
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    der = certificate(rsa_key(2048), digest=hashes.SHA256(), rsa_padding=pss)
    sha256, sha1 = bytes.fromhex("0609608648016503040201"), bytes.fromhex("06052b0e03021a")
    assert der.count(sha256) >= 4, "in the certificate and again at its end, for the hash and for MGF1"
    # The same lengths: SHA-1's identifier and a NULL that fills up.
    weak = der.replace(b"\x30\x0d" + sha256 + b"\x05\x00", b"\x30\x0d" + sha1 + b"\x04\x04\x00\x00\x00\x00")
    assert weak != der
    assert identity(weak)[2] == WEAK


def test_a_version_that_does_not_exist(identity: Callable[[bytes], Any]) -> None:
    """OpenSSL reads it; nothing here depends on the version being one that exists."""
    der = certificate().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    assert identity(der)[3] == der


def test_different_ones_are_two(door: Any) -> None:
    """`identity()` itself asserts that equal ones are one and that the last reference frees it."""
    made = [
        crypto.X509.from_cryptography(x509.load_der_x509_certificate(certificate(san=f"{n}.example")))
        for n in range(50)
    ]
    seen = {door.identity(int(_openssl.ffi.cast("uintptr_t", one._x509)))[4] for one in made}
    assert len(seen) == 50
