"""BER and DER: lengths of every kind, strings in pieces, and an error for whatever is none."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.pki import der
from nlbcore.pki.der import BadEncoding


def encoded(tag: int, content: bytes, *, indefinite: bool = False) -> bytes:
    """A value as BER has it."""
    if indefinite:
        return bytes([tag, 0x80]) + content + b"\0\0"
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(content).to_bytes(size) + content


@given(st.lists(st.binary(max_size=300), max_size=6), st.booleans(), st.booleans())
def test_strings_in_a_sequence(strings: list[bytes], indefinite: bool, in_pieces: bool) -> None:
    """The same values, whichever way they are written."""
    parts = []
    for one in strings:
        if in_pieces:
            pieces = encoded(der.OCTETS, one[:2]) + encoded(der.OCTETS, one[2:])
            parts.append(encoded(der.OCTETS | 0x20, pieces, indefinite=indefinite))
        else:
            parts.append(encoded(der.OCTETS, one))
    data = encoded(der.SEQUENCE, b"".join(parts), indefinite=indefinite)
    node = der.read(data + b"more")
    assert node.encoded == data
    assert [child.octets() for child in node.children()] == strings


@given(st.integers(0, 2**200))
def test_numbers(number: int) -> None:
    content = number.to_bytes(number.bit_length() // 8 + 1)
    assert der.read(encoded(der.INTEGER, content)).integer() == number


@pytest.mark.parametrize("text", ["1.2.840.113549.1.12.10.1.2", "2.16.840.1.101.3.4.2.1", "0.9.2342", "2.999.3"])
def test_object_identifiers(text: str) -> None:
    subject = x509.ObjectIdentifier(text)
    name = x509.Name([x509.NameAttribute(subject, "x")])
    assert der.read(name.public_bytes()).child(0).child(0).child(0).oid() == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x05\x02\x01",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80\x02\x01\x01",
        b"\x04\x80\x00\x00",
        b"\x1f\x81\x01\x00",
        b"\x30\x80" * 100_000,
    ],
)
def test_no_value(data: bytes) -> None:
    with pytest.raises(BadEncoding):
        der.read(data)


def test_another_value_than_is_expected() -> None:
    for wrong in (
        lambda: der.read(b"\x02\x01\x05").children(),
        lambda: der.read(b"\x30\x00").child(0),
        lambda: der.read(b"\x04\x01\x05").integer(),
        lambda: der.read(b"\x02\x00").integer(),
        lambda: der.read(b"\x06\x01\x80").oid(),
        lambda: der.read(b"\x02\x01\x05").oid(),
    ):
        with pytest.raises(BadEncoding):
            wrong()


@given(st.binary(max_size=200))
def test_nothing_else_is_raised(data: bytes) -> None:
    def walk(node: der.Node, depth: int) -> None:
        if node.tag & 0x20 and depth < 50:
            for child in node.children():
                walk(child, depth + 1)

    try:
        walk(der.read(data), 0)
    except BadEncoding:
        return
