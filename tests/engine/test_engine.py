"""The engine's door: listeners, the loop with its ways to return, draining and the end."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Callable

import pytest

from nlbcore.pool.schedulers import Group
from tests.engine.running import BLOCK, Running, plan

ACCEPTORS = 16384


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
    assert running.engine.run() is None
    assert running.engine.turn() is None


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


def test_a_reader_that_pauses_twice_is_granted_the_second_pause_too(
    start: Callable[..., Running], server: socket.socket
) -> None:
    """What the kernel held for it at its first pause says nothing about the second one, at which it holds more."""
    running = start(idle_timeout=1)
    running.connect()
    running.turn(lambda: BLOCK.servers[0].live)
    accepted, _ = server.accept()
    with accepted:
        accepted.setblocking(False)

        def send(most: int) -> None:
            """So much, or as much as fits on all the way."""
            quiet = time.monotonic() + 0.05
            while time.monotonic() < quiet:
                with contextlib.suppress(BlockingIOError):
                    while most > 0:
                        most -= accepted.send(b"x" * 65536)
                        quiet = time.monotonic() + 0.05
                running.engine.run(0.005)

        for size in (1 << 20, 1 << 30):
            send(size)
            running.engine.run(1.1)  # its time is over once, and not twice
            assert BLOCK.servers[0].live == 1, "it may be reading slowly"
        assert running.words() == ["idle_timeout"]


def test_a_name_that_is_too_long(start: Callable[..., Running]) -> None:
    running = start()
    with pytest.raises(ValueError, match=r"server name 'a+' is too long"):
        running.engine.add_listener(plan(Group([], "rr"), names={"a" * 254: 1}))
    running.engine.add_listener(plan(Group([], "rr"), names={"a" * 253: 1}))


def test_rows_that_the_segment_has(start: Callable[..., Running]) -> None:
    """Any number of listeners, since one of each generation may live; but only on rows where they can be counted."""
    running = start()
    numbers = [running.add(row=255, group_row=1023) for _ in range(300)]
    assert len({running.number, *numbers}) == 301
    for wrong in ({"row": 256}, {"row": -1}, {"group_row": 1024}, {"group_row": -1}):
        with pytest.raises(ValueError, match="the segment has no row"):
            running.add(**wrong)


def test_numbers_of_acceptors(start: Callable[..., Running]) -> None:
    """The lowest one that is free. The descriptors stay the caller's."""
    running = start()
    sockets, numbers = zip(*(running.listen() for _ in range(3)), strict=True)
    assert (running.acceptor, *numbers) == (0, 1, 2, 3)
    running.engine.remove_acceptor(numbers[0])
    running.engine.remove_acceptor(numbers[0])
    running.engine.remove_acceptor(running.acceptor)
    assert running.engine.add_acceptor(running.listening.fileno(), running.number) == 0
    assert running.engine.add_acceptor(sockets[0].fileno(), running.number) == 1
    assert running.listen()[1] == 4
    running.engine.stop_accepting()
    for one in (running.listening, *sockets):
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


@pytest.mark.parametrize("shared", [False, True])
def test_what_waits_while_nobody_accepts_is_served_after_that(
    start: Callable[..., Running], server: socket.socket, shared: bool
) -> None:
    running = start()
    listening, number = running.listen(shared=shared)
    before = BLOCK.listeners[0].connections

    def connected(count: int) -> bool:
        return bool(BLOCK.listeners[0].connections == before + count)

    running.clients.append(socket.create_connection(listening.getsockname()))
    running.turn(lambda: connected(1))
    server.accept()[0].close()
    running.engine.remove_acceptor(number)
    running.clients.append(socket.create_connection(listening.getsockname()))
    running.engine.run(0.1)
    assert connected(1), "it waits"
    assert running.engine.add_acceptor(listening.fileno(), running.number, shared) == number
    running.turn(lambda: connected(2))
    running.turn(lambda: BLOCK.servers[0].live)
    accepted, _ = server.accept()
    with accepted:
        accepted.sendall(b"welcome")
        assert running.received(running.clients[-1], 7) == b"welcome"


def test_too_many_acceptors(start: Callable[..., Running]) -> None:
    running = start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    copies: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        copies += [os.dup(running.listening.fileno()) for _ in range(ACCEPTORS)]
        numbers = [running.engine.add_acceptor(fd, running.number) for fd in copies[1:]]
        assert numbers == list(range(1, ACCEPTORS))
        with pytest.raises(OSError, match=f"cannot watch listening socket {copies[0]}") as caught:
            running.engine.add_acceptor(copies[0], running.number)
        assert caught.value.errno == errno.ENOSPC
        running.engine.remove_acceptor(2077)
        assert running.engine.add_acceptor(copies[0], running.number) == 2077
        running.stop_accepting()
    finally:
        for fd in copies:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_socket_that_cannot_be_watched(start: Callable[..., Running]) -> None:
    running = start()
    with pytest.raises(OSError, match="cannot watch listening socket 99999"):
        running.engine.add_acceptor(99999, running.number)


def test_a_listener_that_is_not_there(start: Callable[..., Running]) -> None:
    """Numbers are never used again."""
    running = start()
    gone = running.add()
    running.engine.forget(gone)
    assert len(running.engine.reap()) == 1
    assert running.add() > gone
    for use in (running.engine.succeed, running.engine.retire, running.engine.forget):
        with pytest.raises(KeyError):
            use(gone)
    with pytest.raises(KeyError):
        running.engine.add_acceptor(running.listening.fileno(), gone)


def test_a_round(start: Callable[..., Running], server: socket.socket) -> None:
    """`turn()` waits for nothing, so that longer work gets its steps between rounds; `busy` says when it should not."""
    running = start()
    begin = time.monotonic()
    for _ in range(100):
        assert running.engine.turn() is False
    assert time.monotonic() - begin < 5, "each has waited for a tenth of a second"
    assert not running.engine.busy
    client = running.connect()
    running.turn(lambda: BLOCK.servers[0].live)
    accepted, _ = server.accept()
    with accepted:
        client.setblocking(False)

        def more_than_a_round_can_do() -> bool:
            with contextlib.suppress(BlockingIOError):
                client.send(b"x" * 1_000_000)
            running.engine.turn()
            return running.engine.busy

        running.turn(more_than_a_round_can_do)
    running.ours.send(b"x")
    assert running.engine.turn() is True
