"""The common name that servers are told: whatever its string type, and never one that could be read in two ways."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.certs import new_key, now

KEY = new_key()


def certificate(*attributes: Any) -> bytes:
    """One whose subject is this: each is an RDN, a list is one of several values."""
    name = x509.Name([x509.RelativeDistinguishedName(one if isinstance(one, list) else [one]) for one in attributes])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The Issuer")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now())
        .not_valid_after(now())
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def common_name(value: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, value, kind)


O = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Corp")  # noqa: E741 - the attribute's own name


def swapped(value: bytes, kind: int) -> bytes:
    """The certificate of a name of the same length, with other bytes and another string type in its place."""
    place = bytes([0x55, 0x04, 0x03, 0x0C, len(value)]) + b"S" * len(value)
    made = certificate(common_name("S" * len(value)))
    assert made.count(place) == 1
    return made.replace(place, bytes([0x55, 0x04, 0x03, kind, len(value)]) + value)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ([common_name("client-1")], "client-1"),
        ([O, common_name("client-1"), O], "client-1"),
        ([[O, common_name("client-1")]], "client-1"),
        ([common_name("J\u00fcrgen \u65e5\u672c \U0001f600")], "J\u00fcrgen \u65e5\u672c \U0001f600"),
        ([common_name("client-1", _ASN1Type.PrintableString)], "client-1"),
        ([common_name("J\u00fcrgen \u65e5", _ASN1Type.BMPString)], "J\u00fcrgen \u65e5"),
        ([common_name("x" * 64)], "x" * 64),
        ([O], None),
        ([], None),
        ([common_name("a"), common_name("b")], None),
        ([[common_name("a"), common_name("b")]], None),
        ([common_name("a"), common_name("a")], None),
        ([common_name("admin\0evil")], None),
        ([common_name("line\nbreak")], None),
        ([common_name("\x7f")], None),
        ([common_name("\x85")], None),
    ],
)
def test_of_a_subject(door: Any, subject: list[Any], expected: str | None) -> None:
    assert door.told_name(certificate(*subject)) == (expected.encode() if expected is not None else None)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (b"J\xfcrgen", 0x14, "J\u00fcrgen"),
        (b"\0\0\0J\0\1\xf6\0", 0x1C, "J\U0001f600"),
        (b"client", 0x16, "client"),
        (b"J\xfcrgen", 0x16, None),
        (b"J\xfcrgen", 0x13, None),
        (b"J\xfcrgen", 0x0C, None),
        (b"\xc0\x80", 0x0C, None),
        (b"\xed\xa0\x80", 0x0C, None),
        (b"\xf4\x90\x80\x80", 0x0C, None),
        (b"\xe6\x97", 0x0C, None),
        (b"\xd8\0\xdc\0", 0x1E, None),
        (b"abc", 0x1E, None),
        (b"\0\x11\0\0", 0x1C, None),
        (b"\xff\xff\xff\xff", 0x1C, None),
        (b"client", 0x04, None),
    ],
)
def test_of_other_strings(door: Any, value: bytes, kind: int, expected: str | None) -> None:
    assert door.told_name(swapped(value, kind)) == (expected.encode() if expected is not None else None)


@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize(("size", "told"), [(253, True), (254, False), (300, False)])
def test_longer_than_anybody_reads(door: Any, size: int, told: bool) -> None:
    """It is left out, not cut."""
    long = x509.NameAttribute(NameOID.COMMON_NAME, "x" * size, _validate=False)
    assert door.told_name(certificate(long)) == (b"x" * size if told else None)


GOOD = certificate(O, common_name("client-1"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(GOOD)))
def test_never_reads_past_the_end(door: Any, changes: list[tuple[int, int]], size: int) -> None:
    broken = bytearray(GOOD)
    for place, byte in changes:
        broken[place] = byte
    name = door.told_name(bytes(broken[:size]))
    assert name is None or name.decode().isprintable() or any(ord(letter) > 0x9F for letter in name.decode())
