"""Slow work on all sessions: who is cut when the time to drain is over, and how long certificates in use are good for."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from nlbcore.segment import EXPIRING_DAYS
from tests.engine.running import BLOCK, SHARED, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Pki, now

Start = Callable[..., Running]


def clock() -> int:
    return time.monotonic_ns() // 1_000_000


def served(running: Running, count: int, row: int = 0) -> None:
    running.turn(lambda: BLOCK.servers[row].live == count)


@pytest.fixture
def two() -> Iterator[Running]:
    """An engine whose listener has two servers."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        made = Running([(row, 1, socket.AF_INET, each.getsockname()) for row, each in enumerate((one, other))])
        yield made
        made.close()


def test_connections_to_a_server_are_cut(two: Running) -> None:
    """At its time and not before, in order; those to others stay."""
    clients = [two.connect() for _ in range(4)]
    two.turn(lambda: BLOCK.servers[0].live == BLOCK.servers[1].live == 2)
    cut = clock() + 300
    SHARED.orders[1].cut_ms = cut
    ended = two.ended(2)
    assert clock() >= cut
    assert {(two.word(one), one.server_row, one.detail_errno) for one in ended} == {("drained", 1, 0)}
    assert (BLOCK.servers[0].live, BLOCK.servers[1].live) == (2, 0)
    for client in clients:
        if client.getsockname()[1] in {one.port for one in ended}:
            assert two.received(client, 1) == b"", "a FIN, no reset"
    two.engine.run(0.3)
    assert BLOCK.servers[0].live == 2


def test_an_order_that_is_taken_back(two: Running) -> None:
    two.connect()
    served(two, 1)
    SHARED.orders[0].cut_ms = clock() + 200
    SHARED.orders[0].cut_ms = 0
    two.engine.run(0.5)
    assert BLOCK.servers[0].live == 1


def test_connections_of_a_listener_that_is_no_more_are_cut(start: Start) -> None:
    """Not those of one that has a successor, which may use the same row; and those of all generations before."""
    running = start()
    running.connect()
    served(running, 1)
    running.reload(2)
    running.connect()
    served(running, 2)
    SHARED.listener_cut_ms[0] = 1
    running.engine.run(0.3)
    assert BLOCK.servers[0].live == 2
    running.engine.drain_acceptor(running.acceptor)
    running.engine.retire(running.number)
    assert running.words(2) == ["drained"] * 2
    for client in running.clients:
        client.close()
    running.turn(lambda: BLOCK.listeners[0].live == 0)
    assert sorted(one.generation for one in running.engine.reap()) == [1, 2]


def test_a_listener_without_an_end_to_its_draining(start: Start) -> None:
    running = start()
    running.connect()
    served(running, 1)
    running.engine.drain_acceptor(running.acceptor)
    running.engine.retire(running.number)
    running.engine.run(0.3)
    assert BLOCK.servers[0].live == 1
    SHARED.listener_cut_ms[0] = clock() + 200
    running.engine.run(0.1)
    assert BLOCK.servers[0].live == 1
    assert running.words() == ["drained"]


def test_one_that_is_still_dialling_is_cut_too(pki: Pki) -> None:
    """Its server does not answer: it must not hold a listener that is no more until it does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        running = Running([(0, 1, socket.AF_INET, full.getsockname())], connect_timeout=30)
        running.connect()
        running.turn(lambda: [one.termination for one in running.living()] == [3])
        running.engine.run(0.05)
        SHARED.orders[0].cut_ms = clock()
        assert running.words() == ["drained"]
        running.close()
        for one in waiting:
            one.close()


# -- certificates in use that expire -------------------------------------------------------------------------------------


def expiring(row: int = 0) -> list[int]:
    return list(BLOCK.listeners[row].expiring)


def test_certificates_that_expire(start: Start, pki: Pki) -> None:
    """Each once, whoever shows it, in every period that it does not outlive; none when its last connection has gone."""
    running = start(**Web(pki).plan())
    clients = []
    for hours in (12, 3 * 24, 10 * 24, 20 * 24, 20 * 24, 60 * 24):
        certificate = pki.root.client(f"for-{hours}", not_after=now() + dt.timedelta(hours=hours))
        clients += [Client(running, pki, certificate).shake() for _ in range(2)]
    served(running, 12)
    assert EXPIRING_DAYS == (1, 7, 14, 30)
    running.turn(lambda: expiring() == [1, 2, 3, 5])
    running.engine.run(0.5)
    assert expiring() == [1, 2, 3, 5], "and again"
    for client in clients[:4]:
        client.ssl.close()
    numbers = {one.id for one in running.living() if one.port not in {port(client) for client in clients[4:]}}
    running.engine.kill_slice(numbers, 0)
    running.turn(lambda: expiring() == [0, 0, 1, 3])


def port(client: Client) -> int:
    number: int = client.ssl.getsockname()[1]
    return number


def test_certificates_of_several_listeners(start: Start, pki: Pki) -> None:
    """One that is shown at both counts for each, once."""
    web, more = Web(pki), Web(pki)
    running = start(**web.plan())
    listening, _ = running.listen()
    running.engine.remove_acceptor(1)
    second = running.add(row=4, **more.plan())
    running.engine.add_acceptor(listening.fileno(), second)
    certificate = pki.root.client("soon", not_after=now() + dt.timedelta(days=3))
    addresses = (running.address, listening.getsockname())
    for number in range(6):
        running.address = addresses[number % 2]
        Client(running, pki, certificate).shake()
        served(running, number + 1)
    running.turn(lambda: expiring(0) == expiring(4) == [0, 1, 1, 1])
    running.engine.run(0.5)
    assert expiring(0) == expiring(4) == [0, 1, 1, 1]


def test_who_shows_no_certificate_is_not_counted(start: Start, pki: Pki) -> None:
    running = start(**Web(pki).plan(mode="off"))
    soon = pki.root.client("soon", not_after=now() + dt.timedelta(hours=3))
    Client(running, pki, soon).shake()
    served(running, 1)
    running.engine.run(0.4)
    assert expiring() == [0, 0, 0, 0]
