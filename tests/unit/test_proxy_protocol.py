"""The PROXY protocol: written headers read by an independent parser, read headers written by it; any pieces, any bytes."""

from __future__ import annotations

import itertools
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6, ProxyResultUnix
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from nlbcore.proxy_protocol import Header, Parser, encode

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = (("192.0.2.1", 56324), ("203.0.113.7", 443))
V6 = (("2001:db8::1", 1), ("2001:db8::ff", 65535))
UNIX = (b"/run/a.sock", b"/run/b.sock")


def spelt(address: IPv4Address | IPv6Address) -> str:
    """As the C library does it: Python's own spelling of ::ffff:0.0.0.0 is another."""
    return socket.inet_ntop(socket.AF_INET6, address.packed)


PORTS = st.integers(0, 65535)
ENDS = st.one_of(
    st.tuples(*[st.tuples(st.ip_addresses(v=4).map(str), PORTS)] * 2),
    st.tuples(*[st.tuples(st.ip_addresses(v=6).map(spelt), PORTS)] * 2),
)
PATHS = st.binary(max_size=108).filter(lambda path: not path.endswith(b"\0"))
TLVS = st.lists(st.tuples(st.integers(0x30, 0xFF), st.binary(max_size=300)), max_size=5)


def v2(rest: bytes = b"", *, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if size is None else size) + rest


def parse(data: bytes) -> tuple[Header | None, int]:
    parser = Parser()
    used = parser.feed(data)
    return parser.header, used


def outcome(pieces: list[bytes]) -> tuple[Any, ...]:
    """What a parser makes of bytes that come in these pieces: the header and its size, the fault, or neither yet."""
    parser = Parser()
    used = 0
    for piece in pieces:
        try:
            taken = parser.feed(piece)
        except ValueError as error:
            return ("fault", str(error))
        used += taken
        if parser.header is not None:
            return ("header", parser.header, used)
        assert taken == len(piece)
    return ("more", used)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_others_read_version_1(ends: tuple[Any, Any]) -> None:
    result: Any = ProxyProtocolV1().unpack(encode(1, *ends))
    assert (result.peername[:2], result.sockname[:2]) == ends


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_others_read_version_2(ends: tuple[Any, Any]) -> None:
    result: Any = ProxyProtocolV2().unpack(encode(2, *ends, tlvs=[(1, b"h2"), (2, b"a.example"), (5, b"n/1")]))
    assert (result.peername[:2], result.sockname[:2]) == ends
    assert (result.tlv.alpn, result.tlv.authority, result.tlv.unique_id) == (b"h2", "a.example", b"n/1")


def test_others_read_unix_local_and_unknown() -> None:
    unix = ProxyProtocolV2().unpack(encode(2, *UNIX))
    assert isinstance(unix, ProxyResultUnix)
    assert (unix.peername, unix.sockname) == tuple(path.decode() for path in UNIX)
    assert not ProxyProtocolV2().unpack(encode(2, local=True)).proxied
    assert encode(2, local=True) == v2(command=0x20, family=0)
    assert encode(2) == v2(family=0)
    assert encode(1) == encode(1, local=True) == encode(1, *UNIX) == b"PROXY UNKNOWN\r\n"


def test_the_longest_line() -> None:
    longest = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    line = encode(1, longest, longest)
    assert len(line) == 104
    assert parse(line)[0] == Header(1, False, longest, longest)


@pytest.mark.parametrize(
    ("arguments", "tlvs"),
    [
        ((2, V4[0], V6[0]), ()),
        ((2, b"p" * 109, b""), ()),
        ((2, *V4), [(1, b"x" * 65536)]),
        ((2, *V4), [(0xE0, b"x" * 40000), (0xE0, b"y" * 30000)]),
        ((3, *V4), ()),
    ],
    ids=["mixed families", "long path", "long value", "too much", "version 3"],
)
def test_what_cannot_be_written(arguments: Any, tlvs: Any) -> None:
    with pytest.raises(ValueError, match=r"different families|longer than|too long|no version"):
        encode(*arguments, tlvs=tlvs)


# -- what is read ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(ENDS, st.binary(max_size=40))
def test_round_trip_version_1(ends: Any, behind: bytes) -> None:
    line = encode(1, *ends)
    header, used = parse(line + behind)
    assert used == len(line)
    assert header is not None
    assert (header.version, header.local) == (1, False)
    assert [(ip_address(one[0]), one[1]) for one in (header.source, header.destination) if isinstance(one, tuple)] == [
        (ip_address(host), port) for host, port in ends
    ]


@settings(deadline=None)
@given(st.one_of(ENDS, st.tuples(PATHS, PATHS)), TLVS, st.binary(max_size=40))
def test_round_trip_version_2(ends: Any, tlvs: list[tuple[int, bytes]], behind: bytes) -> None:
    data = encode(2, *ends, tlvs=tlvs)
    header, used = parse(data + behind)
    assert (header, used) == (Header(2, False, *ends), len(data))


@settings(deadline=None)
@given(ENDS, TLVS)
def test_headers_of_others_with_a_checksum(ends: Any, tlvs: list[tuple[int, bytes]]) -> None:
    result: Any = ProxyResultIPv6 if ":" in ends[0][0] else ProxyResultIPv4
    addresses = [(ip_address(host), port) for host, port in ends]
    tlv = ProxyProtocolTLV(init=dict(tlvs), auto_crc32c=True)
    data = ProxyProtocolV2().pack(result(*addresses, protocol=socket.SOCK_STREAM, tlv=tlv))
    assert b"\x03\x00\x04" in data
    header, used = parse(data)
    assert (header, used) == (Header(2, False, *ends), len(data))
    for place in (16, len(data) - 1):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(ValueError, match=r"checksum|TLV"):
            parse(bytes(broken))


def test_local_and_unspecified_are_skipped_unread() -> None:
    rubbish = b"\xff" * 300
    assert parse(v2(rubbish, command=0x20) + b"behind") == (Header(2, True, None, None), 316)
    assert parse(v2(rubbish, command=0x20, family=0)) == (Header(2, True, None, None), 316)
    assert parse(v2(rubbish, family=0x00)) == (Header(2, False, None, None), 316)
    assert parse(v2(rubbish, family=0x12)) == (Header(2, False, None, None), 316), "a datagram"
    assert parse(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nbehind") == (Header(1, False, None, None), 35)


def test_the_longest_header_takes_no_more_memory() -> None:
    data = encode(2, *V4, tlvs=[(0xE0, b"x" * 32000), (0xE1, b"y" * 33517)])
    assert len(data) == 16 + 65535
    assert parse(data + b"behind") == (Header(2, False, *V4), 16 + 65535)


ADDRESSES = bytes(8) + b"\0\1\0\2"


REFUSED = [
    (b"\x16\x03\x01", "no PROXY header"),
    (b"GET / HTTP/1.1\r\n", "no PROXY header"),
    (b"PROXYTCP4", "no PROXY header"),
    (SIGNATURE[:11] + b"\r", "no PROXY header"),
    (b"PROXY \r\n", "not well formed"),
    (b"PROXY TCP4\r\n", "not well formed"),
    (b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY UNKNOWNS\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "not well formed"),
    (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY TCP4 ::1 ::1 1 1\r\n", "not well formed"),
    (b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "not well formed"),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "not well formed"),
    (b"PROXY TCP6 " + b"1" * 60 + b" ::1 1 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", "not well formed"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 4294967297\r\n", "not well formed"),
    (b"PROXY UNKNOWN " + b"x" * 93, "more than 107"),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\r", "more than 107"),
    (v2(ADDRESSES, command=0x31), "unknown version"),
    (v2(ADDRESSES, command=0x11), "unknown version"),
    (v2(ADDRESSES, command=0x22), "unknown command"),
    (v2(ADDRESSES, family=0x41), "unknown address family"),
    (v2(ADDRESSES, family=0x13), "unknown address family"),
    (v2(ADDRESSES[:-1]), "too short"),
    (v2(ADDRESSES, family=0x21), "too short"),
    (v2(ADDRESSES, family=0x31), "too short"),
    (v2(ADDRESSES + b"\1\0"), "does not fit"),
    (v2(ADDRESSES + b"\1\0\1"), "does not fit"),
    (v2(ADDRESSES + b"\1\xff\xffabc"), "does not fit"),
    (v2(ADDRESSES + b"\3\0\2ab"), "does not fit"),
    (v2(ADDRESSES + b"\3\0\4abcd"), "wrong checksum"),
    (v2(ADDRESSES + b"\3\0\4abcd\3\0\4abcd"), "does not fit"),
]


def test_what_is_refused() -> None:
    for data, words in REFUSED:
        kind, fault = outcome([data])[:2]
        assert (kind, words in str(fault)) == ("fault", True), (data, fault)
        assert outcome([data[i : i + 1] for i in range(len(data))]) == (kind, fault), data


def test_a_line_of_107_bytes_is_read() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert parse(line) == (Header(1, False, None, None), 107)


def test_a_header_that_is_not_whole() -> None:
    for data in (encode(1, *V4), encode(2, *V6, tlvs=[(5, b"id")]), v2(b"abc", command=0x20)):
        for size in range(len(data)):
            assert outcome([data[:size]]) == ("more", size)
        parser = Parser()
        assert parser.feed(b"") == 0
        assert parser.feed(data) == len(data)
        assert parser.feed(b"behind") == 0, "nothing behind the header is the parser's"


# -- fuzzing -----------------------------------------------------------------------------------------------------------

ALMOST = st.one_of(
    st.builds(lambda ends, behind: encode(1, *ends) + behind, ENDS, st.binary(max_size=20)),
    st.builds(lambda ends, tlvs, behind: encode(2, *ends, tlvs=tlvs) + behind, ENDS, TLVS, st.binary(max_size=20)),
    st.builds(
        lambda command, family, size, rest: v2(rest, command=command, family=family, size=size),
        st.integers(0, 255),
        st.sampled_from([0x00, 0x11, 0x21, 0x31, 0x12, 0x41, 0x10]),
        st.one_of(st.none(), st.integers(0, 65535)),
        st.binary(max_size=400),
    ),
    st.binary(max_size=200).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=300),
)


@settings(deadline=None)
@given(
    ALMOST,
    st.lists(st.integers(0, 1000), max_size=12),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=2),
)
def test_any_pieces_give_the_same(data: bytes, cuts: list[int], changes: list[tuple[int, int]]) -> None:
    """Almost headers, with bytes changed: whole, in pieces and byte by byte the outcome is one."""
    changed = bytearray(data)
    for place, byte in changes:
        if changed:
            changed[place % len(changed)] = byte
    data = bytes(changed)
    whole = outcome([data])
    assert outcome(split(data, cuts)) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole
    if whole[0] == "header":
        assert outcome([data[: whole[2]]]) == whole, "no byte behind it counts"
        assert whole[2] <= 16 + 65535
