"""The look into a certificate's DER: right about good ones, and never beyond the end of bad ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

USAGE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SAN = (x509.SubjectAlternativeName([x509.DNSName("a.example")]), False)


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(*extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2049, 1, 1, tzinfo=dt.UTC))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key(), hashes.SHA256()).public_bytes(Encoding.DER)


def constraints(path_length: int | None = None, *, ca: bool) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca, path_length)


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("others", [(), (USAGE, SAN)], ids=["alone", "behind others"])
def test_authorities(door: Any, critical: bool, others: Iterable[tuple[x509.ExtensionType, bool]]) -> None:
    for path_length in (None, 0, 3, 200):
        assert door.is_authority(certificate(*others, (constraints(path_length, ca=True), critical)))
    assert not door.is_authority(certificate(*others, (constraints(ca=False), critical)))
    assert not door.is_authority(certificate(*others))


def test_alternative_names(door: Any) -> None:
    assert door.has_alternative_name(certificate(SAN))
    assert door.has_alternative_name(certificate(USAGE, (constraints(ca=True), True), SAN))
    assert not door.has_alternative_name(certificate(USAGE, (constraints(ca=True), True)))
    assert not door.has_alternative_name(certificate())


def test_the_signed_part(door: Any) -> None:
    """All of what is no certificate."""
    whole = certificate(SAN)
    assert door.signed_part(whole) == x509.load_der_x509_certificate(whole).tbs_certificate_bytes
    for other in (b"", b"\x30", whole[:-1], b"\x31" + whole[1:], b"\x30\x00", b"\x30\x02\x31\x00"):
        assert door.signed_part(other) == other


def test_a_long_certificate(door: Any) -> None:
    """Lengths of two and of three octets."""
    for count in (20, 3000):
        many = (x509.SubjectAlternativeName([x509.DNSName(f"{n}.example") for n in range(count)]), False)
        assert door.is_authority(certificate(many, (constraints(ca=True), True)))
        assert not door.is_authority(certificate(many, (constraints(ca=False), True)))


def test_the_oid_elsewhere(door: Any) -> None:
    """The bytes of basicConstraints inside another extension's value are no basicConstraints."""
    fake = b"\x30\x0c\x06\x03\x55\x1d\x13\x04\x05\x30\x03\x01\x01\xff"
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), fake)
    assert not door.is_authority(certificate((other, False)))


def test_origin(door: Any) -> None:
    akis = {
        None: (),
        b"KEY": ((x509.AuthorityKeyIdentifier(b"KEY", None, None), False),),
        b"": ((x509.AuthorityKeyIdentifier(None, [x509.DNSName("a")], 5), False),),
    }
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]).public_bytes()[2:]
    for key_id, extensions in akis.items():
        assert door.origin(certificate(SAN, *extensions)) == (b"\x01", name, key_id or None)
    whole = certificate(USAGE, *akis[b"KEY"])
    for size in range(len(whole) - 200):
        assert door.origin(whole[:size]) is None


def attributes(*values: tuple[int, bytes]) -> bytes:
    """A Name of one common name for each (tag, value)."""

    def element(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    sets = (element(0x31, element(0x30, b"\x06\x03\x55\x04\x03" + element(tag, value))) for tag, value in values)
    return element(0x30, b"".join(sets))


UTF8, PRINTABLE, BMP = 0x0C, 0x13, 0x1E


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (attributes((UTF8, b"Root CA")), attributes((PRINTABLE, b"  root \t\n ca ")), True),
        (attributes((UTF8, b"Root CA")), attributes((UTF8, b"RootCA")), False),
        (attributes((UTF8, b"Root CA")), attributes((UTF8, b"Root C")), False),
        (attributes((UTF8, b"")), attributes((UTF8, b"   ")), True),
        (attributes((UTF8, "Ä".encode())), attributes((UTF8, "ä".encode())), False),
        (attributes((BMP, b"\0R")), attributes((BMP, b"\0R")), True),
        (attributes((BMP, b"\0R")), attributes((BMP, b"\0r")), False),
        (attributes((BMP, b"\0R")), attributes((UTF8, b"\0R")), False),
        (attributes((UTF8, b"a"), (UTF8, b"b")), attributes((UTF8, b"A"), (UTF8, b"B")), True),
        (attributes((UTF8, b"a"), (UTF8, b"b")), attributes((UTF8, b"b"), (UTF8, b"a")), False),
        (attributes((UTF8, b"a"), (UTF8, b"b")), attributes((UTF8, b"a")), False),
        (attributes(), attributes(), True),
        (attributes(), attributes((UTF8, b"")), False),
        (attributes((UTF8, b"a")), b"\x30\x02\x31\x00", False),
        (b"\x30\x02\x05\x00", b"\x30\x02\x05\x00", False),
    ],
)
def test_names(door: Any, one: bytes, other: bytes, same: bool) -> None:
    assert door.same_name(one, other) is same
    assert door.same_name(other, one) is same


@given(st.text("aA \tb", max_size=12), st.text("aA \tb", max_size=12))
def test_names_against_openssl(door: Any, one: str, other: str) -> None:
    ffi, lib = _openssl.ffi, _openssl.lib
    kept, ders = [], []
    for text in (one, other):
        whole = ffi.gc(lib.X509_new(), lib.X509_free)
        name = lib.X509_get_subject_name(whole)
        if text:
            assert lib.X509_NAME_add_entry_by_NID(name, 13, 0x1000, text.encode(), -1, -1, 0) == 1
        out = ffi.new("unsigned char **")
        size = lib.i2d_X509_NAME(name, out)
        ders.append(bytes(ffi.buffer(out[0], size)))
        lib.OPENSSL_free(out[0])
        kept.append((whole, name))
    assert door.same_name(*ders) is (lib.X509_NAME_cmp(kept[0][1], kept[1][1]) == 0)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_names(door: Any, one: bytes, other: bytes) -> None:
    assert door.same_name(b"\x30" + one, b"\x30" + other) in (None, False, True)
    whole = attributes((UTF8, b"a"), (UTF8, b"b"))
    assert door.same_name(whole[: len(one)] + one, whole) in (None, False, True)


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x83\xff\xff\xff", b"\x30\x02\x30\x00", b"\x30\x00"],
    ids=lambda der: der.hex() or "empty",
)
def test_what_is_no_certificate(door: Any, der: bytes) -> None:
    assert not door.is_authority(der)
    assert not door.has_alternative_name(der)


def test_cut_anywhere(door: Any) -> None:
    der = certificate(USAGE, SAN, (constraints(1, ca=True), True))
    for size in range(len(der)):
        assert not door.is_authority(der[:size])


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 5000))
def test_mutated(door: Any, changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever the answer: no crash here, and no finding of the sanitizers in their build."""
    der = bytearray(certificate(USAGE, SAN, (constraints(1, ca=True), True)))
    for place, value in changes:
        der[place % len(der)] = value
    for data in (bytes(der), bytes(der[: cut % len(der)])):
        assert door.is_authority(data) in (False, True)
        assert door.has_alternative_name(data) in (False, True)


@given(st.binary(max_size=200))
def test_garbage(door: Any, der: bytes) -> None:
    assert not door.is_authority(b"\xff" + der)
    assert door.is_authority(der) in (False, True)
