"""Dialling: another server is tried when a connect fails, each once, and the last failure gives the word."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.running import BLOCK, Running


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def running(*servers: Any, **changes: Any) -> Running:
        rows = [
            (row, 1, socket.AF_UNIX if isinstance(one, str) else socket.AF_INET, one) for row, one in enumerate(servers)
        ]
        made.append(Running(rows, **changes))
        return made[-1]

    yield running
    for one in made:
        one.close()


@pytest.fixture
def refusing() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()  # type: ignore[no-any-return]


@pytest.fixture
def hanging() -> Iterator[tuple[str, int]]:
    """One that answers nobody: its queue is full."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        with socket.create_connection(made.getsockname()):
            yield made.getsockname()


@pytest.fixture
def serving() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def served(running: Running, serving: socket.socket) -> None:
    client = running.connect()
    client.sendall(b"x")
    running.turn(lambda: BLOCK.servers[1].live)
    with serving.accept()[0] as accepted:
        assert running.received(accepted, 1) == b"x"
        client.close()
        assert running.received(accepted, 1) == b""
    assert running.words() == ["client_close"]


def test_another_one_for_one_that_refuses(
    start: Callable[..., Running], refusing: tuple[str, int], serving: socket.socket
) -> None:
    before = BLOCK.servers[0].connect_failed
    served(start(refusing, serving.getsockname()), serving)
    assert BLOCK.servers[0].connect_failed == before + 1


def test_another_one_for_one_that_hangs(
    start: Callable[..., Running], hanging: tuple[str, int], serving: socket.socket
) -> None:
    before = BLOCK.servers[0].connect_timeout
    served(start(hanging, serving.getsockname(), connect_timeout=0.1), serving)
    assert BLOCK.servers[0].connect_timeout == before + 1


@pytest.mark.parametrize("word", ["connect_timeout", "connect_failed"])
def test_nobody_is_left(
    start: Callable[..., Running], refusing: tuple[str, int], hanging: tuple[str, int], word: str
) -> None:
    """The word is that of the last one tried."""
    servers = (refusing, hanging) if word == "connect_timeout" else (hanging, refusing)
    running = start(*servers, connect_timeout=0.1)
    running.connect()
    assert running.words() == [word]


def test_a_unix_socket_that_is_not_there(start: Callable[..., Running], tmp_path: Any) -> None:
    running = start(str(tmp_path / "no.sock"))
    running.connect()
    assert running.words() == ["connect_failed"]


def test_a_group_without_servers(start: Callable[..., Running]) -> None:
    running = start()
    client = running.connect()
    assert running.words() == ["no_server"]
    assert client.recv(1) == b""


def test_each_one_that_is_tried_gets_a_header_and_its_bytes_are_not_counted(
    start: Callable[..., Running], refusing: tuple[str, int], serving: socket.socket
) -> None:
    running = start(refusing, serving.getsockname(), announce="v1")
    client = running.connect()
    client.sendall(b"x")
    running.turn(lambda: BLOCK.servers[1].live)
    header = "PROXY TCP4 {0[0]} {1[0]} {0[1]} {1[1]}\r\nx".format(client.getsockname(), running.address).encode()
    with serving.accept()[0] as accepted:
        assert running.received(accepted, len(header)) == header
        client.close()
        assert running.received(accepted, 1) == b""
    (ended,) = running.ended()
    assert (running.word(ended), ended.received, ended.sent) == ("client_close", 1, 0)


def test_eight_servers_are_tried_at_most(start: Callable[..., Running], refusing: tuple[str, int]) -> None:
    before = sum(BLOCK.servers[row].connect_failed for row in range(20))
    running = start(*[refusing] * 20)
    running.connect()
    assert running.words() == ["connect_failed"]
    assert sum(BLOCK.servers[row].connect_failed for row in range(20)) == before + 8
