"""The stage that takes a front balancer's PROXY header: who must send one, and that nothing of it stays behind."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlbcore.proxy_protocol import encode
from tests.engine.running import BLOCK, Running

PREAMBLE = 7  # engine/slab.pxd
ENDS = (("192.0.2.7", 40000), ("198.51.100.9", 443))
LOOPBACK = bytes([4, 8, 127]) + bytes(15)
UNIX = bytes(18)


def entry(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bytes:
    return bytes((network.version, network.prefixlen)) + network.network_address.packed.ljust(16, b"\0")


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
NETWORKS = st.one_of(
    st.builds(
        lambda one, bits: ipaddress.ip_network((one, bits), strict=False), st.ip_addresses(v=4), st.integers(0, 32)
    ),
    st.builds(
        lambda one, bits: ipaddress.ip_network((one, bits), strict=False), st.ip_addresses(v=6), st.integers(0, 128)
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(NETWORKS, max_size=4), ADDRESSES, st.data())
def test_who_is_a_front_balancer(door: Any, networks: list[Any], address: Any, data: Any) -> None:
    """As Python's ipaddress sees it; half of the time an address near the edge of a network is asked for."""
    if networks and data.draw(st.booleans()):
        network = data.draw(st.sampled_from(networks))
        edge = int(data.draw(st.sampled_from([network.network_address, network.broadcast_address])))
        near = max(0, min(edge + data.draw(st.integers(-1, 1)), 2**network.max_prefixlen - 1))
        address = type(network.network_address)(near)
    mapped = getattr(address, "ipv4_mapped", None) or address
    expected = any(mapped in network for network in networks if network.version == mapped.version)
    fronts = b"".join(entry(network) for network in networks)
    assert door.is_front(fronts, address.packed) is expected
    assert not door.is_front(fronts, b"")
    assert door.is_front(fronts + UNIX, b"")


def test_ipv4_in_ipv6(door: Any) -> None:
    mapped = ipaddress.ip_address("::ffff:127.0.0.1").packed
    assert door.is_front(LOOPBACK, mapped)
    assert not door.is_front(LOOPBACK, ipaddress.ip_address("::127.0.0.1").packed)


@pytest.fixture
def running() -> Iterator[tuple[Running, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        one = Running([(0, 1, socket.AF_INET, server.getsockname())], fronts=LOOPBACK, handshake_timeout=0.2)
        yield one, server
        one.close()


@pytest.mark.parametrize("version", [1, 2])
def test_what_follows_the_header_is_the_clients(running: tuple[Running, socket.socket], version: Any) -> None:
    """In one segment, or byte by byte; while it is awaited the connection is listed as such."""
    one, server = running
    for pieces in (1, len(encode(version, *ENDS)) + 2):
        data = encode(version, *ENDS) + b"hi"
        client = one.connect()
        one.turn(lambda: [head.termination for head in one.living()] == [PREAMBLE])
        step = -(-len(data) // pieces)
        for start in range(0, len(data), step):
            client.sendall(data[start : start + step])
            one.engine.turn()
        one.turn(lambda: BLOCK.servers[0].live)
        with server.accept()[0] as accepted:
            assert one.received(accepted, 2) == b"hi"
            (living,) = one.living()
            assert (living.address[:4], living.port) == (socket.inet_aton("192.0.2.7"), 40000)
            client.close()
            assert one.received(accepted, 1) == b""
        (ended,) = one.ended()
        assert (one.word(ended), ended.received) == ("client_close", 2)


@pytest.mark.parametrize(
    ("said", "word"),
    [(b"x", "bad_proxy_header"), (encode(2, *ENDS)[:-1], "handshake_timeout"), (b"PROXY ", "handshake_timeout")],
)
def test_without_a_good_one_no_server_is_dialled(
    running: tuple[Running, socket.socket], said: bytes, word: str
) -> None:
    one, _ = running
    before = BLOCK.servers[0].connections
    one.connect().sendall(said)
    assert one.words() == [word]
    assert BLOCK.servers[0].connections == before


def test_leaving_within_it(running: tuple[Running, socket.socket]) -> None:
    one, _ = running
    client = one.connect()
    client.sendall(b"PROXY TCP4")
    client.shutdown(socket.SHUT_WR)
    assert one.words() == ["bad_proxy_header"]


def test_drained_while_it_waits(running: tuple[Running, socket.socket]) -> None:
    one, _ = running
    one.connect()
    one.turn(one.living)
    one.engine.shut()
    assert one.words() == ["shutdown"]
