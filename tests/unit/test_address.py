"""Endpoint: what is read is what is printed, and each way to get it wrong has its own sentence."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.address import MAX_PATH_BYTES, Endpoint

PORTS = st.integers(0, 65535)


@given(st.ip_addresses(v=4), PORTS)
def test_ipv4_round_trip(address: ipaddress.IPv4Address, port: int) -> None:
    endpoint = Endpoint.parse(f"{address}:{port}")
    assert endpoint == Endpoint(host=str(address), port=port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert endpoint.family is socket.AF_INET
    assert endpoint.sockaddr() == (str(address), port)


@given(st.ip_addresses(v=6), PORTS)
def test_ipv6_round_trip_from_any_spelling(address: ipaddress.IPv6Address, port: int) -> None:
    endpoint = Endpoint.parse(f"[{address.exploded.upper()}]:{port}")
    assert Endpoint.parse(str(endpoint)) == endpoint == Endpoint.parse(f"[{address.compressed}]:{port}")
    assert str(endpoint) == f"[{address}]:{port}"
    assert endpoint.family is socket.AF_INET6
    assert endpoint.sockaddr() == (str(address), port, 0, 0)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=25))
def test_unix_round_trip(path: str) -> None:
    if path.startswith("@"):
        path = "./" + path
    endpoint = Endpoint.parse(f"unix:{path}")
    assert endpoint == Endpoint(path=path)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert endpoint.family is socket.AF_UNIX
    assert endpoint.sockaddr() == path


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=":"), min_size=1))
def test_sockets_of_systemd_have_a_name_and_no_address(name: str) -> None:
    endpoint = Endpoint.parse(f"systemd:{name}")
    assert endpoint == Endpoint(systemd=name)
    assert str(endpoint) == f"systemd:{name}"
    for ask in (lambda: endpoint.family, endpoint.sockaddr):
        with pytest.raises(ValueError, match="names a socket, not an address"):
            ask()


@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert Endpoint.parse(str(endpoint)) == endpoint


def test_link_local_addresses_name_their_interface() -> None:
    by_name = Endpoint.parse("[FE80::1%lo]:80")
    assert str(by_name) == "[fe80::1%lo]:80"
    assert by_name.sockaddr() == ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
    assert Endpoint.parse("[fe80::1%7]:80").sockaddr() == ("fe80::1", 80, 0, 7)
    with pytest.raises(OSError, match=r"No such device|no interface"):
        Endpoint.parse("[fe80::1%nowhere]:80").sockaddr()


def test_the_longest_path() -> None:
    longest = "/" + "x" * (MAX_PATH_BYTES - 1)
    assert Endpoint.parse(f"unix:{longest}").path == longest
    with pytest.raises(ValueError, match="108 bytes long; the kernel allows 107"):
        Endpoint.parse(f"unix:{longest}x")
    with pytest.raises(ValueError, match="108 bytes"):
        Endpoint.parse("unix:" + "é" * 54)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'empty; write "127.0.0.1:443"'),
        ("443", '"443" has no address: write "0.0.0.0:443" or "[::]:443"'),
        (":443", '":443" has no address'),
        ("*:443", '"*:443" has no address'),
        ("10.0.0.1", '"10.0.0.1" has no port, as in "10.0.0.1:443"'),
        ("[::1]", '"[::1]" has no port, as in "[::1]:443"'),
        ("[::1", '"[::1" is no address'),
        ("::1:80", "an IPv6 address stands in brackets"),
        ("[1.2.3.4]:80", '"1.2.3.4" is not an IPv6 address'),
        ("[fe80::1%]:80", "the name or the number of an interface"),
        ("1.2.3:80", '"1.2.3" is not an IPv4 address'),
        ("010.0.0.1:80", '"010.0.0.1" is not an IPv4 address'),
        ("app:80", '"app" is not an IP address; host names are not resolved'),
        ("1.2.3.4:http", "the port must be a number from 0 to 65535"),
        ("1.2.3.4:65536", "the port must be a number from 0 to 65535"),
        ("1.2.3.4:-1", "the port must be a number from 0 to 65535"),
        ("1.2.3.4:٣", "the port must be a number from 0 to 65535"),
        ("1.2.3.4: 80", "the port must be a number from 0 to 65535"),
        ("/run/app.sock", 'write "unix:/run/app.sock" for a UNIX socket'),
        ("systemd:", '"systemd:" needs the name of a socket'),
        ("systemd:a:b", '"a:b" is no name of a socket'),
        ("systemd:a b", '"a b" is no name of a socket'),
        ("systemd:é", '"é" is no name of a socket'),
        ("systemd:" + "x" * 256, "1 to 255 printable ASCII characters"),
        ("unix:", '"unix:" needs a path'),
        ("unix:@app", "abstract sockets are not supported"),
        ("unix:a\0b", "cannot hold a zero byte"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Endpoint.parse(text)
    assert sentence in str(caught.value)


def test_endpoints_are_values() -> None:
    assert len({Endpoint.parse("[::1]:80"), Endpoint.parse("[0:0::1]:80"), Endpoint.parse("127.0.0.1:80")}) == 2
