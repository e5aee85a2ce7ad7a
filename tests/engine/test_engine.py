"""The engine's door: listeners, the loop with its ways to return, draining and the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nlbcore.pool.schedulers import Group
from tests.engine.running import BLOCK, Running, plan


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def start(server: socket.socket) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def running(**changes: Any) -> Running:
        made.append(Running([(0, 1, socket.AF_INET, server.getsockname())], **changes))
        return made[-1]

    yield running
    for one in made:
        one.close()


def test_bytes_and_an_end(start: Callable[..., Running], server: socket.socket) -> None:
    running = start()
    before = BLOCK.listeners[0].connections
    client = running.connect()
    client.sendall(b"up")
    running.turn(lambda: BLOCK.servers[0].live)
    accepted, _ = server.accept()
    with accepted:
        assert running.received(accepted, 2) == b"up"
        accepted.sendall(b"down")
        assert running.received(client, 4) == b"down"
        assert BLOCK.listeners[0].live == 1
        client.close()
        assert running.received(accepted, 1) == b""
    assert running.words() == ["client_close"]
    assert BLOCK.listeners[0].connections == before + 1
    running.turn(lambda: BLOCK.listeners[0].live == 0)
    assert BLOCK.servers[0].live == 0


def test_it_returns_when_the_supervisor_speaks(start: Callable[..., Running]) -> None:
    running = start()
    begin = time.monotonic()
    assert running.engine.run(0.05) is False
    assert 0.04 <= time.monotonic() - begin < 1
    running.ours.send(b"x")
    assert running.engine.run() is True
    assert running.engine.run() is True, "until it is read"


def test_the_heart_beats(start: Callable[..., Running]) -> None:
    running = start()
    before = BLOCK.heartbeat
    running.engine.run(0.15)
    assert BLOCK.heartbeat > before
    assert BLOCK.heartbeat <= time.monotonic() * 1000


def test_draining(start: Callable[..., Running], server: socket.socket) -> None:
    """What is queued is accepted, then nothing; it returns when the last one has gone."""
    running = start()
    client = running.connect()
    queued = running.connect()
    running.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        running.connect()
    running.turn(lambda: BLOCK.servers[0].live == 2)
    for one in (client, queued):
        one.close()
    for _ in range(2):
        server.accept()[0].close()
    assert running.engine.run() is False


def test_the_end(start: Callable[..., Running], server: socket.socket) -> None:
    running = start()
    client = running.connect()
    running.turn(lambda: BLOCK.servers[0].live == 1)
    accepted, _ = server.accept()
    with accepted:
        running.engine.shut()
        assert client.recv(1) == b""
        assert accepted.recv(1) == b""
    assert running.words() == ["shutdown"]


def test_limits(start: Callable[..., Running]) -> None:
    running = start(max_connections=1, half_close_timeout=0.05)
    running.connect()
    over = running.connect()
    assert running.words() == ["connection_limit"]
    with pytest.raises(ConnectionResetError):
        over.recv(1)


def test_a_name_that_is_too_long(start: Callable[..., Running]) -> None:
    running = start()
    with pytest.raises(ValueError, match=r"server name 'a+' is too long"):
        running.engine.add_listener(plan(Group([], "rr"), names={"a" * 254: 1}))
    running.engine.add_listener(plan(Group([], "rr"), names={"a" * 253: 1}))


def test_too_many_listeners(start: Callable[..., Running]) -> None:
    running = start()
    for _ in range(255):
        running.engine.add_listener(plan(Group([], "rr")))
    with pytest.raises(ValueError, match="more than 256 listeners"):
        running.engine.add_listener(plan(Group([], "rr")))


def test_a_socket_that_cannot_be_watched(start: Callable[..., Running]) -> None:
    with pytest.raises(OSError, match="cannot watch listening socket 99999"):
        start().engine.add_acceptor(99999, 0)
