"""Listeners of several generations in one engine: who serves whom, and when nobody needs one any more; dumps and killing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from nlbcore.engine import session
from nlbcore.pool.schedulers import Group
from tests.engine.running import BLOCK, Running

STATES = ("free", "hello", "handshake", "connect", "relay", "flush", "linger", "preamble", "closed")
CONNECTION = 3


def served(running: Running, count: int) -> None:
    running.turn(lambda: BLOCK.servers[0].live == count)


def reaped(running: Running) -> list[int]:
    return [plan.generation for plan in running.engine.reap()]


# -- a reload ------------------------------------------------------------------------------------------------------------


def test_live_connections_keep_the_generation_they_began_with(
    start: Callable[..., Running], server: socket.socket
) -> None:
    """New ones are of the one in force; the old listener goes when its last connection has."""
    running = start()
    old = running.connect()
    served(running, 1)
    running.reload(2)
    new = running.connect()
    served(running, 2)
    assert running.engine.generations() == {1, 2}
    assert reaped(running) == [], "somebody needs it"
    one, two = (server.accept()[0] for _ in range(2))
    with one, two:
        old.sendall(b"still there")
        assert running.received(one, 11) == b"still there"
        old.close()
        one.close()
        assert [ended.generation for ended in running.ended()] == [1]
        running.turn(lambda: BLOCK.listeners[0].live == 1)
        assert reaped(running) == [1]
        assert running.engine.generations() == {2}
        assert reaped(running) == []
        new.close()
    assert [ended.generation for ended in running.ended()] == [2]


def test_a_listener_is_needed_as_long_as_it_accepts(start: Callable[..., Running]) -> None:
    running = start()
    _, number = running.listen()
    running.reload(2)
    assert reaped(running) == []
    running.engine.remove_acceptor(number)
    assert reaped(running) == [1]
    running.engine.move_acceptor(number, running.number)  # it is gone: nothing happens
    assert running.listen()[1] == number


def test_other_listeners_are_not_touched(start: Callable[..., Running]) -> None:
    running = start()
    other = running.add(row=1)
    running.reload(2)
    assert reaped(running) == [1]
    assert running.engine.generations() == {1, 2}
    running.engine.retire(other)
    assert reaped(running) == [1]


def test_three_generations(start: Callable[..., Running], server: socket.socket) -> None:
    """Each goes when nobody needs it, in any order."""
    running = start()
    clients, ends = [], []
    for generation in (2, 3, 4):
        clients.append(running.connect())
        served(running, generation - 1)
        ends.append(server.accept()[0])
        running.reload(generation)
    assert running.engine.generations() == {1, 2, 3, 4}
    for index, generation in ((1, 2), (0, 1), (2, 3)):
        clients[index].close()
        ends[index].close()
        assert [ended.generation for ended in running.ended()] == [generation]
        running.turn(lambda: len(running.living()) < len(running.engine.generations()))
        assert reaped(running) == [generation]
    assert running.engine.generations() == {4}


def test_a_generation_that_is_not_wanted_after_all(start: Callable[..., Running]) -> None:
    """It was never in force: nothing is of it, and it does not end what is."""
    running = start()
    numbers = [running.add(generation=2, row=row) for row in (0, 1)]
    for number in numbers:
        running.engine.forget(number)
    assert reaped(running) == [2, 2]
    running.connect()
    served(running, 1)
    assert running.engine.generations() == {1}
    assert [one.generation for one in running.living()] == [1]


def test_a_listener_that_is_no_more(start: Callable[..., Running], server: socket.socket) -> None:
    """What waits in the queue is accepted, then nothing; it serves those it has until they end."""
    running = start()
    first = running.connect()
    served(running, 1)
    queued = [running.connect() for _ in range(3)]
    running.engine.drain_acceptor(running.acceptor)
    running.engine.retire(running.number)
    late = running.connect()
    running.listening.close()
    served(running, 4)
    assert reaped(running) == []
    for client in (first, *queued, late):
        client.close()
    for _ in range(4):
        server.accept()[0].close()
    running.turn(lambda: BLOCK.listeners[0].live == 0)
    assert reaped(running) == [1]
    assert len(running.ended(4)) == 4
    assert running.engine.generations() == set()


def test_a_group_outlives_its_generation(start: Callable[..., Running], server: socket.socket) -> None:
    """The servers that a listener chooses from belong to its plan, which is given back when nobody needs it."""
    running = start()
    running.reload(2)
    (plan,) = running.engine.reap()
    (group,) = plan.keep
    assert isinstance(group, Group)
    assert group.choose() == 0


# -- who is connected ----------------------------------------------------------------------------------------------------


def test_who_is_connected(start: Callable[..., Running], server: socket.socket) -> None:
    """Each once, whatever it is doing, of all generations; those that have ended are not among them."""
    running = start()
    assert running.living() == []
    clients = [running.connect() for _ in range(3)]
    served(running, 3)
    running.reload(2, group_row=5)
    clients.append(running.connect())
    served(running, 4)
    found = running.living()
    assert {one.kind for one in found} == {CONNECTION}
    assert {STATES[one.termination] for one in found} == {"relay"}
    assert sorted(one.generation for one in found) == [1, 1, 1, 2]
    assert {one.port for one in found} == {client.getsockname()[1] for client in clients}
    assert len({one.id for one in found}) == 4
    assert {one.id & 1023 for one in found} == {3}, "the worker's slot"
    assert {one.server_row for one in found} == {0}
    clients[0].close()
    for _ in range(4):
        server.accept()[0].close()
    running.turn(lambda: len(running.living()) < 4)


def test_states_are_those_of_the_state_machine() -> None:
    assert tuple(session.moves()) == STATES


def test_many_are_written_in_slices(start: Callable[..., Running], server: socket.socket) -> None:
    """64 at a time: between two of them connections have their turn."""
    running = start()
    for count in range(1, 151):
        running.connect()
        served(running, count)
        running.clients.append(server.accept()[0])
    file = os.memfd_create("dump")
    try:
        slices = []
        slot: int | None = 0
        while slot is not None:
            slot = running.engine.dump_slice(file, slot)
            slices.append(os.fstat(file).st_size)
    finally:
        os.close(file)
    sizes = [after - before for before, after in zip([0, *slices], slices, strict=False)]
    assert sizes[0] == max(sizes)
    assert len([size for size in sizes if size]) == 3
    assert len(running.living()) == 150


def test_a_file_that_cannot_be_written(start: Callable[..., Running]) -> None:
    running = start()
    running.connect()
    served(running, 1)
    with open("/dev/full", "wb") as full, pytest.raises(OSError, match="No space left"):
        running.engine.dump_slice(full.fileno(), 0)
    assert len(running.living()) == 1


# -- killing -------------------------------------------------------------------------------------------------------------


def test_killing(start: Callable[..., Running], server: socket.socket) -> None:
    """Those with the numbers and nobody else; both ends learn it."""
    running = start()
    clients = [running.connect() for _ in range(3)]
    served(running, 3)
    by_port = {one.port: one.id for one in running.living()}
    numbers = [by_port[client.getsockname()[1]] for client in clients]
    assert running.engine.kill_slice({numbers[0], numbers[2], 12345}, 0) == (None, 2)
    assert running.words(2) == ["killed", "killed"]
    for client in (clients[0], clients[2]):
        assert running.received(client, 1) == b""
    served(running, 1)
    assert [one.id for one in running.living() if STATES[one.termination] == "relay"] == [numbers[1]]
    assert running.engine.kill_slice({numbers[0], numbers[2]}, 0) == (None, 0), "they are ending"
    assert running.engine.kill_slice(frozenset(), 0) == (None, 0)


def test_killing_begins_where_it_is_told_to(start: Callable[..., Running]) -> None:
    running = start()
    running.connect()
    served(running, 1)
    (one,) = running.living()
    assert running.engine.kill_slice({one.id}, 1 << 20) == (None, 0)
    assert running.engine.kill_slice({one.id}, 0) == (None, 1)
