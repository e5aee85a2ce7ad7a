"""Who is connected by which certificate: counted where it comes and goes, and limited."""

from __future__ import annotations

import ctypes
import datetime as dt
from collections.abc import Callable

import pytest

from nlbcore.segment import Block
from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Pki, now
from tests.support.forge import twin

Start = Callable[..., Running]


@pytest.fixture
def web(pki: Pki) -> Web:
    return Web(pki)


def counts(block: Block = BLOCK) -> list[int]:
    """Of all places that are in use, sorted."""
    words = (ctypes.c_uint64 * (ctypes.sizeof(block.holders) // 8)).from_buffer(block.holders)
    return sorted(count & 0xFFFFFFFF for count in words[1::2] if count & 0xFFFFFFFF)


def served(running: Running, count: int) -> None:
    running.turn(lambda: BLOCK.servers[0].live == count)


def end(running: Running, client: Client) -> None:
    """End a client's connection."""
    port = client.ssl.getsockname()[1]
    running.engine.kill_slice({one.id for one in running.living() if one.port == port}, 0)
    running.ended()


def test_each_certificate_has_a_place(start: Start, web: Web, pki: Pki) -> None:
    """Who has none, or is refused, has no place."""
    running = start(**web.plan(mode="optional"))
    first, second = pki.client, pki.root.client("another")
    clients = [Client(running, pki, one).shake() for one in (first, first, second, None)]
    served(running, 4)
    Client(running, pki, pki.bad_client("unknown_ca")).shake()
    running.ended()
    assert counts() == [1, 2]
    assert BLOCK.held
    for port, left in ((clients[0], [1, 1]), (clients[3], [1, 1]), (clients[2], [1]), (clients[1], [])):
        end(running, port)
        assert counts() == left


def test_a_twin_has_the_same_place(start: Start, web: Web, pki: Pki) -> None:
    """Whose signature is another one over the same contents; a renewed certificate of the same key has its own."""
    running = start(**web.plan())
    renewed = pki.root.client("client-1", key=pki.client.key)
    clients = [Client(running, pki, one).shake() for one in (pki.client, twin(pki.client), renewed)]
    served(running, 3)
    assert counts() == [1, 2]
    for client, left in zip(clients, ([1, 1], [1], []), strict=True):
        end(running, client)
        assert counts() == left


def test_whom_report_lets_in(start: Start, web: Web, pki: Pki) -> None:
    """A certificate that nobody vouches for is nobody's: it is not counted, and limits nobody."""
    running = start(**web.plan(mode="report", max_connections_per_certificate=1))
    for number in range(3):
        Client(running, pki, pki.bad_client("unknown_ca")).shake()
        served(running, number + 1)
    assert counts() == []
    Client(running, pki, pki.client).shake()
    served(running, 4)
    Client(running, pki, pki.client).shake()
    assert running.words() == ["connection_limit"]


def test_it_ends(start: Start, web: Web, pki: Pki) -> None:
    """No place is left behind when all have gone."""
    running = start(**web.plan())
    end = now() + dt.timedelta(days=3)
    for number in range(5):
        Client(running, pki, pki.root.client(f"c{number}", not_after=end)).shake()
    served(running, 5)
    assert counts() == [1] * 5
    running.engine.kill_slice({one.id for one in running.living()}, 0)
    running.ended(5)
    assert counts() == []
