"""The PROXY header to a server, of a plain connection: version 1 and 2, told ends before the kernel's, in every generation."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nlbcore.proxy_protocol import Header, Parser, encode
from tests.engine.running import BLOCK, Running

ENDS = (("2001:db8::7", 40000), ("2001:db8::9", 443))
LOOPBACK = bytes([4, 8, 127]) + bytes(15)


@pytest.fixture
def serving() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def start(serving: socket.socket) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def running(**changes: Any) -> Running:
        made.append(Running([(0, 1, socket.AF_INET, serving.getsockname())], **changes))
        return made[-1]

    yield running
    for one in made:
        one.close()


def told(running: Running, serving: socket.socket, said: bytes = b"") -> tuple[Header | None, socket.socket]:
    """What the server is told, before a byte of the client's own, and the client."""
    client = running.connect()
    client.sendall(said)
    running.turn(lambda: BLOCK.servers[0].live)
    parser = Parser()
    with serving.accept()[0] as accepted:
        while parser.header is None:
            parser.feed(running.received(accepted, 1))
    return parser.header, client


@pytest.mark.parametrize(("announce", "version"), [("v1", 1), ("v2", 2), ("tls", 2), ("full", 2)])
def test_the_ends_of_the_connection(
    start: Callable[..., Running], serving: socket.socket, announce: str, version: int
) -> None:
    running = start(announce=announce)
    header, client = told(running, serving)
    assert header == Header(version, False, client.getsockname(), running.address)


@pytest.mark.parametrize("announce", ["v1", "v2"])
def test_the_ends_that_were_told(start: Callable[..., Running], serving: socket.socket, announce: str) -> None:
    header, _ = told(start(announce=announce, fronts=LOOPBACK), serving, encode(2, *ENDS))
    assert header is not None
    assert (header.source, header.destination) == ENDS


@pytest.mark.parametrize(
    ("announce", "expected"),
    [("v2", Header(2, False, b"/a", b"/b")), ("v1", Header(1, False, None, None))],
)
def test_paths_that_were_told(
    start: Callable[..., Running], serving: socket.socket, announce: str, expected: Header
) -> None:
    header, _ = told(start(announce=announce, fronts=LOOPBACK), serving, encode(2, b"/a", b"/b"))
    assert header == expected


def test_a_reload_begins_and_ends_it(start: Callable[..., Running], serving: socket.socket) -> None:
    running = start()
    running.reload(announce="v1")
    header, _ = told(running, serving)
    assert header is not None
    assert header.version == 1
