"""The live connections: asked for once at a time, read, limited; an answer that comes late or not at all."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.admin import live
from nlbcore.admin.live import Connections
from nlbcore.errors import BusyError
from tests.unit.admin.published import Published
from tests.unit.observe.test_connections import live as record
from tests.unit.observe.test_connections import memfd

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


@pytest.fixture
def balancer() -> Iterator[Published]:
    with Published() as made:
        yield made


class Supervisor:
    """Is asked, and answers as it is told to: with a list of each worker."""

    def __init__(self, balancer: Published, *lists: bytes) -> None:
        self.lists = lists
        self.asked = 0
        self.answering = True
        self.connections = Connections(balancer.facts, self.ask)

    def ask(self) -> bool:
        self.asked += 1
        if self.answering:
            asyncio.get_running_loop().call_soon(self.answer)
        return True

    def answer(self) -> None:
        fds = [memfd(one) for one in self.lists]
        self.connections.answered({"workers": list(range(len(fds)))}, fds)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_limited(balancer: Published) -> None:
    """A worker that writes nonsense is named, and costs only its own."""
    many = b"".join(record(number, listener_row=4, server_row=7) for number in range(250))

    async def ask() -> None:
        supervisor = Supervisor(balancer, many, b"nonsense", record(999))
        found = await supervisor.connections.listed(1000)
        assert [one["connection"] for one in found["connections"]] == [*range(250), 999]
        assert found["connections"][0].items() >= {"worker": 0, "listener": "web", "server": "s7"}.items()
        assert (found["truncated"], found["unreadable"]) == (False, [1])
        found = await supervisor.connections.listed(150)
        assert (len(found["connections"]), found["truncated"]) == (150, True)
        assert len((await supervisor.connections.listed(251))["connections"]) == 251
        assert supervisor.asked == 3

    run(ask())


def test_one_at_a_time(balancer: Published) -> None:
    async def ask() -> None:
        supervisor = Supervisor(balancer, record(1))
        found = await asyncio.gather(*(supervisor.connections.listed(5) for _ in range(3)))
        assert [len(one["connections"]) for one in found] == [1, 1, 1]
        assert supervisor.asked == 3

    run(ask())


def test_no_answer(balancer: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes later is nobody's."""
    monkeypatch.setattr(live, "PATIENCE", 0.05)

    async def ask() -> None:
        supervisor = Supervisor(balancer, record(1))
        supervisor.answering = False
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(BusyError, match="try again"):
            await supervisor.connections.listed(5)
        supervisor.answer()
        assert len(os.listdir("/proc/self/fd")) == before
        supervisor.answering = True
        assert len((await supervisor.connections.listed(5))["connections"]) == 1
        with pytest.raises(BusyError):
            await Connections(balancer.facts, lambda: False).listed(5)

    run(ask())
