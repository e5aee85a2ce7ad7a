"""The names in a certificate, in the form in which rules compare them; all that is in no way a name is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import forge
from tests.support.forge import BMP, UTF8, certificate

CN, O, OU, DNS, URI, EMAIL, IP4, IP6 = range(8)  # noqa: E741 - as in engine/names.pxd
ANY = 11


def test_subject(door: Any) -> None:
    attributes: list[forge.Attribute] = [
        ("title", UTF8, b"Dr"),
        ("cn", UTF8, b"  Client \x20 1 "),
        ("o", BMP, "Ä".encode("utf-16-be")),
        ("ou", UTF8, b"A\0"),
        ("ou", UTF8, b""),
    ]
    expected = [(CN, b"client 1"), (O, "Ä".encode()), (OU, None), (OU, b"")]
    for one_set in (False, True):
        assert door.subject_names(certificate(attributes, one_set=one_set)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("dns", b"WWW.Example.ORG."), (DNS, b"www\x01example\x01org")),
        (("dns", b"*.a"), (DNS, b"*\x01a")),
        (("dns", b"."), (DNS, None)),
        (("dns", b"a.."), (DNS, None)),
        (("dns", b".a"), (DNS, None)),
        (("dns", b""), (DNS, None)),
        (("dns", b"a" * 254), (DNS, None)),
        (("dns", b"a" * 253), (DNS, b"a" * 253)),
        (("dns", "ü.example".encode()), (DNS, None)),
        (("email", b"Ab@Corp.Example"), (EMAIL, b"Ab\x02corp\x01example")),
        (("email", b"a@b@c"), (EMAIL, None)),
        (("email", b"@c"), (EMAIL, None)),
        (("email", b"a@"), (EMAIL, None)),
        (("email", b"a@b."), (EMAIL, None)),
        (("email", b"a"), (EMAIL, None)),
        (
            ("uri", b"SPIFFE://U@Prod.X:1/Ns/a.b?q/1?2#f#/"),
            (URI, b"spiffe:\x03\x03u\x02prod\x01x\x061\x03Ns\x03a.b\x04q/1?2\x05f\x05/"),
        ),
        (("uri", b"urn:A:b"), (URI, b"urn:A:b")),
        (("uri", b"urn"), (URI, None)),
        (("uri", b":a"), (URI, None)),
        (("uri", b"1a:b"), (URI, None)),
        (("uri", b"a://b/../c"), (URI, None)),
        (("uri", b"a://b/.."), (URI, None)),
        (("uri", b"a://b/.?q"), (URI, None)),
        (("uri", b"a://b/...c/.d"), (URI, b"a:\x03\x03b\x03...c\x03.d")),
        (("uri", b"a:%2E"), (URI, None)),
        (("uri", b"a:%00"), (URI, None)),
        (("uri", b"a:%5c"), (URI, None)),
        (("uri", b"a:b\\c"), (URI, None)),
        (("uri", b"a:%4"), (URI, None)),
        (("uri", b"a:%41"), (URI, b"a:%41")),
        (("uri", b"a:" + b"b" * 2047), (URI, None)),
        (("ip", b"\x0a\0\0\1"), (IP4, b"\x0a\0\0\1")),
        (("ip", b"\0" * 10 + b"\xff\xff\x0a\0\0\1"), (IP4, b"\x0a\0\0\1")),
        (("ip", b"\1" * 16), (IP6, b"\1" * 16)),
        (("ip", b"\x0a\0\0"), (IP4, None)),
        (("ip", b"\x0a\0\0\0\xff\0\0\0"), (IP4, None)),
    ],
)
def test_alternative_names(door: Any, name: forge.Name, expected: tuple[int, bytes | None]) -> None:
    assert door.alternative_names(certificate(names=[("other", b""), name])) == [expected]


def test_what_cannot_be_read_on(door: Any) -> None:
    assert door.subject_names(certificate(whole_subject=forge.tlv(0x30, b"\x31\x05"))) == [(ANY, None)]
    cut = forge.tlv(0x30, forge.tlv(0x06, b"\x55\x1d\x11"), forge.tlv(0x04, forge.tlv(0x30, b"\x82\x01a\x82\x7f")))
    assert door.alternative_names(certificate(extensions=[cut])) == [(DNS, b"a"), (ANY, None)]
