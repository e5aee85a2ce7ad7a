"""The poller: events carry their tags whole, edges are reported once, levels again."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def poller(door: Any) -> Iterator[Any]:
    made = door.Poller()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.mark.parametrize(("slot", "generation"), [(0, 1), (0xFFFFFFFF, 0xFFFFFF), (0x12345678, 0xABCDEF)])
def test_tags(poller: Any, ends: tuple[socket.socket, socket.socket], slot: int, generation: int) -> None:
    assert poller.add(ends[0].fileno(), slot, generation) == 0
    ((found_slot, found_generation, flags),) = poller.wait(1000)
    assert (found_slot, found_generation, flags) == (slot, generation, select.EPOLLOUT)


def test_an_edge_is_told_once(poller: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    poller.add(ends[0].fileno(), 1, 1)
    assert len(poller.wait(1000)) == 1
    assert poller.wait(0) == []
    ends[1].send(b"x")
    assert poller.wait(1000)[0][2] & select.EPOLLIN
    assert poller.wait(0) == []
    ends[1].close()
    assert poller.wait(1000)[0][2] & select.EPOLLRDHUP


def test_a_level_is_told_again_until_it_is_removed(poller: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    poller.add(ends[0].fileno(), 1, 1, edge=False)
    assert poller.wait(0) == []
    ends[1].send(b"x")
    for _ in range(2):
        assert [event[2] for event in poller.wait(1000)] == [select.EPOLLIN]
    poller.remove(ends[0].fileno())
    assert poller.wait(0) == []


def test_what_cannot_be_watched(poller: Any) -> None:
    assert poller.add(-1, 0, 0) == -1


def test_a_closed_socket_is_out(poller: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    poller.add(ends[0].fileno(), 1, 1)
    ends[0].close()
    assert poller.wait(0) == []
