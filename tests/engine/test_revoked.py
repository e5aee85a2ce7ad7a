"""The search in a revocation table: right against a Python set, and never outside the table, whatever is in it."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.engine.revoked import Table, authority, collect
from nlbcore.tls.authorities import Authority
from nlbcore.tls.revocation import RevocationList, compile_table
from nlbcore.tls.standing import Standing
from tests.support.certs import Pki, now

OK, MISSING, OVERDUE, REVOKED = 0, 3, 12, 23
SERIALS = st.one_of(st.integers(0, 2**160 - 1), st.integers(0, 300), st.integers(2**152, 2**152 + 300))
NOW = int(now().timestamp())


def tlv(tag: int, *content: bytes) -> bytes:
    """An element of DER."""
    inside = b"".join(content)
    size = len(inside)
    if size < 0x80:
        return bytes([tag, size]) + inside
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + inside


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def name(text: str, tag: int = 0x0C) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(tag, text.encode()))))


def leaf(serial: int, issuer: bytes = name("one"), key_id: bytes | None = None) -> bytes:
    """As much of a certificate as is looked at."""
    extension = (
        b""
        if key_id is None
        else tlv(0xA3, tlv(0x30, tlv(0x30, b"\x06\x03\x55\x1d\x23", tlv(4, tlv(0x30, tlv(0x80, key_id))))))
    )
    empty = tlv(0x30)
    fields = tlv(0xA0, integer(2)), integer(serial), empty, issuer, empty, name("leaf"), tlv(0x30, b"\x05\x00")
    return tlv(0x30, tlv(0x30, *fields, extension))


def crl(*entries: bytes, version: bytes = integer(1), next_update: bytes = tlv(0x17, b"300101000000Z")) -> bytes:
    """As much of a revocation list as is looked at."""
    listed = tlv(0x30, *entries) if entries else b""
    return tlv(0x30, tlv(0x30, version, tlv(0x30), name("x"), tlv(0x17, b"200101000000Z"), next_update, listed))


def entry(serial: int, *extensions: bytes) -> bytes:
    return tlv(0x30, integer(serial), tlv(0x17, b"200101000000Z"), tlv(0x30, *extensions) if extensions else b"")


def reason(code: int) -> bytes:
    return tlv(0x30, b"\x06\x03\x55\x1d\x15", tlv(4, tlv(0x0A, bytes([code]))))


def ca(subject: bytes, key: bytes, key_id: bytes = b"") -> Authority:
    return Authority((), subject, key, key_id, True, ec.generate_private_key(ec.SECP256R1()).public_key(), "")


def table(*cas: tuple[Authority, Iterable[int] | None], due: int = NOW + 1000, stand: Iterable[Standing] = ()) -> bytes:
    """A table of CAs, each with the serial numbers of its list, or None without one; and how they stand."""
    lists = [
        RevocationList(
            "", 0, index, None, now(), now().fromtimestamp(due, now().tzinfo), b"", collect(crl(*map(entry, serials)))
        )
        for index, (_, serials) in enumerate(cas)
        if serials is not None
    ]
    return compile_table(lists, [one for one, _ in cas], list(stand))


A = ca(name("one"), b"KEY A", b"ID A")
B = ca(name("one"), b"KEY B", b"ID B")
C = ca(name("two"), b"KEY A", b"ID A")


@given(st.sets(SERIALS, max_size=60), st.sets(SERIALS, max_size=60), st.lists(SERIALS, max_size=20))
def test_against_a_set(door: Any, first: set[int], second: set[int], others: list[int]) -> None:
    """Two CAs of one name: each certificate is looked up in the list of the one whose key has signed it."""
    made = Table(table((A, first), (B, second)))
    for serial in (*first, *second, *others):
        for key, revoked in ((b"KEY A", first), (b"KEY B", second)):
            assert door.look_up(made, leaf(serial), key, NOW) == (REVOKED if serial in revoked else OK)
        unknown = door.look_up(made, leaf(serial), None, NOW)
        assert unknown == (REVOKED if serial in first | second else OK), "revoked in any is revoked"


def test_who_the_issuer_is(door: Any) -> None:
    made = Table(table((A, [1]), (B, [2]), (C, None)))
    assert door.look_up(made, leaf(1), b"KEY A", NOW) == REVOKED
    assert door.look_up(made, leaf(1), b"KEY B", NOW) == OK
    assert door.look_up(made, leaf(1), b"KEY D", NOW) == MISSING, "the name alone is nothing"
    assert door.look_up(made, leaf(1, name("three")), b"KEY A", NOW) == MISSING, "nor is the key"
    assert door.look_up(made, leaf(1, name("two")), b"KEY A", NOW) == MISSING, "no list"
    assert door.look_up(made, leaf(1, name(" ONE ", 0x13)), b"KEY A", NOW) == REVOKED, "one name, written otherwise"


def test_an_issuer_whose_key_is_not_known(door: Any) -> None:
    made = Table(table((A, [1]), (B, [2]), (C, None)))
    assert door.look_up(made, leaf(1, key_id=b"ID A"), None, NOW) == REVOKED
    assert door.look_up(made, leaf(1, key_id=b"ID B"), None, NOW) == OK
    assert door.look_up(made, leaf(1, key_id=b"ID C"), None, NOW) == MISSING
    assert door.look_up(made, leaf(1), None, NOW) == REVOKED
    assert door.look_up(made, leaf(3), None, NOW) == OK
    assert door.look_up(made, leaf(3, name("two")), None, NOW) == MISSING
    assert door.look_up(made, leaf(3, name("three")), None, NOW) == MISSING
    nameless_key = Table(table((ca(name("one"), b"KEY A"), [1]), (B, None)))
    assert door.look_up(nameless_key, leaf(1, key_id=b"ID C"), None, NOW) == REVOKED, (
        "a CA without identifier may be it"
    )
    assert door.look_up(nameless_key, leaf(3), None, NOW) == MISSING, "the worst answer counts"


def test_overdue(door: Any) -> None:
    made = Table(table((A, [1]), due=NOW))
    for moment, accepted, good in ((NOW, False, OK), (NOW + 1, False, OVERDUE), (NOW + 1, True, OK)):
        assert door.look_up(made, leaf(2), b"KEY A", moment, accepted) == good
        assert door.look_up(made, leaf(1), b"KEY A", moment, accepted) == REVOKED
    assert door.look_up(made, leaf(2), b"KEY B", NOW + 1, True) == MISSING, "accepted is what is overdue only"


def test_how_the_ca_stands(door: Any) -> None:
    """By the lists above it: revoked, without a list, overdue; and still its own list counts."""
    made = Table(table((A, [1]), (B, [1]), (C, [1]), stand=[Standing(1), Standing(2), Standing(0, NOW)], due=NOW + 9))
    below = leaf(2, name("two"))
    assert door.look_up(made, leaf(2), b"KEY A", NOW) == REVOKED
    assert door.look_up(made, leaf(2), b"KEY B", NOW) == MISSING
    assert door.look_up(made, leaf(1), b"KEY B", NOW) == REVOKED
    assert [door.look_up(made, below, b"KEY A", NOW + late) for late in (0, 1)] == [OK, OVERDUE]
    assert door.look_up(made, below, b"KEY A", NOW + 1, True) == OK
    assert door.look_up(made, leaf(1, name("two")), b"KEY A", NOW + 1) == REVOKED


def test_whom_it_is_about(door: Any) -> None:
    """The CA that is revoked, has no list above it, or below a list that is overdue; nobody where it is the client's own CA
    that says so or says nothing.
    """
    stand = [Standing(1, about=2), Standing(2, about=1), Standing(0, NOW, about=1)]
    made = Table(table((A, [1]), (B, [1]), (C, [1]), stand=stand, due=NOW + 9))
    below = leaf(2, name("two"))
    assert door.look_about(made, leaf(2), b"KEY A", NOW) == (REVOKED, C.subject)
    assert door.look_about(made, leaf(2), b"KEY B", NOW) == (MISSING, B.subject)
    assert door.look_about(made, leaf(1), b"KEY B", NOW) == (REVOKED, b"")
    assert door.look_about(made, below, b"KEY A", NOW) == (OK, b"")
    assert door.look_about(made, below, b"KEY A", NOW + 1) == (OVERDUE, B.subject)
    assert door.look_about(made, below, b"KEY A", NOW + 1, True) == (OK, b"")
    assert door.look_about(made, below, b"KEY A", NOW + 10) == (OVERDUE, b""), "that of its own CA"
    assert door.look_about(made, leaf(1, name("four")), b"KEY A", NOW) == (MISSING, b"")
    unlisted = Table(table((A, None), stand=[Standing(2)]))
    assert door.look_about(unlisted, leaf(2), b"KEY A", NOW) == (MISSING, b"")
    with pytest.raises(ValueError, match="entry 0 leads out of it"):
        Table(table((A, [1]), stand=[Standing(1, about=1)]))


def test_serial_numbers(door: Any) -> None:
    """The most that RFC 5280 has, with and without its sign octet; longer ones; negative ones fail closed."""
    most = 2**160 - 1
    made = Table(table((A, [0, 1, 255, most])))
    for serial, answer in ((most, REVOKED), (most - 1, OK), (2**160, OK), (2**160 + most, OK), (0, REVOKED)):
        assert door.look_up(made, leaf(serial), b"KEY A", NOW) == answer
    assert door.look_up(made, leaf(-1), b"KEY A", NOW) == REVOKED, "taken for 255"
    with pytest.raises(ValueError, match="more than 20 octets"):
        collect(crl(entry(2**160)))


def test_what_is_no_certificate(door: Any) -> None:
    made = Table(table((A, [])))
    whole = leaf(5, key_id=b"ID A")
    for size in range(len(whole)):
        assert door.look_up(made, whole[:size], b"KEY A", NOW) == MISSING


# -- the table -----------------------------------------------------------------------------------------------------------


def test_buffers() -> None:
    good = table((A, [1]))
    Table(memoryview(good))
    with pytest.raises(ValueError, match="can be written to"):
        Table(bytearray(good))  # type: ignore[arg-type]
    fd = os.memfd_create("table")
    try:
        os.write(fd, good)
        Table(mmap.mmap(fd, len(good), prot=mmap.PROT_READ))
    finally:
        os.close(fd)


def test_a_table_is_kept(door: Any) -> None:
    made = Table(bytes(bytearray(table((A, [1])))))
    for _ in range(100):
        bytearray(10_000)
    assert door.look_up(made, leaf(1), b"KEY A", NOW) == REVOKED


def test_cut_anywhere() -> None:
    good = table((A, [1, 2]), (B, None))
    for size in range(len(good)):
        with pytest.raises(ValueError, match="revocation table"):
            Table(good[:size])
    with pytest.raises(ValueError, match="cut off"):
        Table(good + b"\0")


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0, "c", b"X"),
        (8, "I", 1),
        (12, "I", 3),
        (12, "I", 2**32 - 1),
        (16, "Q", 2**64 - 1),
        *((32 + field, "Q", value) for field in (16, 32, 40, 48) for value in (10**6, 2**64 - 1, 2**63)),
        *((32 + field, "I", value) for field in (24, 56, 60, 64) for value in (10**6, 2**32 - 1)),
    ],
)
def test_offsets_that_lead_out(offset: int, form: str, value: Any) -> None:
    spoilt = bytearray(table((A, [1, 2]), (B, None)))
    struct.pack_into(f"={form}", spoilt, offset, value)
    with pytest.raises(ValueError, match="revocation table"):
        Table(bytes(spoilt))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_mutated_tables(door: Any, changes: list[tuple[int, int]], known: bool) -> None:
    """Refused, or searched without leaving it (the sanitizers' build would tell)."""
    spoilt = bytearray(table((A, [1, 2, 3]), (B, [4]), (C, None)))
    for place, value in changes:
        spoilt[place % len(spoilt)] = value
    try:
        made = Table(bytes(spoilt))
    except ValueError:
        return
    for serial in (1, 2, 3, 4, 5):
        found = door.look_up(made, leaf(serial, key_id=b"ID A"), b"KEY A" if known else None, NOW)
        assert found in (OK, MISSING, OVERDUE, REVOKED)


# -- the records of a list -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(SERIALS, st.sampled_from([None, 0, 1, 6, 8, 10])), max_size=60))
def test_records(entries: list[tuple[int, int | None]]) -> None:
    made = collect(crl(*(entry(serial, *([] if code is None else [reason(code)])) for serial, code in entries)))
    assert made == b"".join(sorted(serial.to_bytes(20, "big") for serial, code in entries if code != 8))


def test_forms_of_lists() -> None:
    assert collect(crl()) == b""
    assert collect(crl(entry(1), version=b"")) == (1).to_bytes(20, "big")
    assert collect(crl(entry(1), next_update=b"")) == (1).to_bytes(20, "big")
    assert collect(crl(entry(1), next_update=tlv(0x18, b"20600101000000Z"))) == (1).to_bytes(20, "big")


def extension(oid: str, value: bytes, critical: bytes = tlv(1, b"\xff")) -> bytes:
    return tlv(0x30, bytes.fromhex(oid), critical, tlv(4, value))


def test_extensions_of_entries() -> None:
    when = tlv(0x18, b"20200101000000Z")
    assert collect(crl(entry(1, extension("0603551d18", when), extension("0603551d15", b"\x0a\x01\x08")))) == b""
    assert collect(crl(entry(1, extension("0603551d63", b"", b"")))) != b""
    for one, message in (
        (extension("0603551d63", b""), "critical extension"),
        (extension("0603551d1d", b"", b""), "indirect"),
        (extension("0603551d15", b""), "damaged"),
        (tlv(0x30), "damaged"),
        (tlv(0x30, b"\x06\x00", tlv(1, b"\xff")), "damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            collect(crl(entry(1, one)))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 400))
def test_mutated_lists(changes: list[tuple[int, int]], cut: int) -> None:
    whole = bytearray(crl(entry(1), entry(300, reason(1)), entry(2**159, extension("0603551d18", b"\x05\x00"))))
    for place, value in changes:
        whole[place % len(whole)] = value
    for data in (bytes(whole), bytes(whole[: cut % len(whole)])):
        try:
            assert len(collect(data)) % 20 == 0
        except ValueError:
            continue


def test_authority(pki: Pki) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    made = pki.root.certificate.public_bytes(Encoding.DER)
    key = pki.root.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert authority(made) == (pki.root.name.public_bytes(), key)
    for size in (0, 1, 10, 60, len(made) // 2):
        with pytest.raises(ValueError, match="not a certificate"):
            authority(made[:size])
