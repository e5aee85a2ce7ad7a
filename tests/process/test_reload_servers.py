"""Servers that a reload removes, adds and brings back: a removed one is drained for the time that its group gives it."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.waiting import stays
from tests.support.workers import Greeted, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.reloading import Tables


@pytest.fixture(scope="module")
def servers(use: Callable[[Any], Any]) -> dict[str, Backend]:
    """Servers that greet with their names."""
    return {name: use(Backend(greet(name.encode()))) for name in "ab"}


@pytest.fixture(scope="module")
def tables_with(servers: dict[str, Backend]) -> Callable[..., Tables]:
    """`tables_with("ab", connection_drain_timeout="1s")`: a group of these servers."""
    listener = plain_listener()

    def make(names: str, **keys: object) -> Tables:
        group = server_group(*(servers[name].entry(name=name) for name in names), **keys)
        return {"node": {"workers": 2}, "listeners": {"plain": listener}, "server_groups": {"app": group}}

    return make


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], tables_with: Callable[..., Tables]) -> Balancer:
    return balancer_for(tables_with("ab"))


def one_of_each(stack: ExitStack, balancer: Balancer) -> dict[str, Greeted]:
    """A client of each server at each worker, of whom one for each server is returned."""
    held = spread(stack, partial(Greeted, balancer.port("plain")), balancer, 2)
    return {client.server: client for clients in held.values() for client in clients}


def set_up(balancer: Balancer, tables: Tables) -> None:
    balancer.rewrite(tables)
    balancer.reload()


def test_removed(balancer: Balancer, tables_with: Callable[..., Tables]) -> None:
    """No new connections; those it has go on for `connection_drain_timeout`, then they are cut as `drained`."""
    set_up(balancer, tables_with("ab", connection_drain_timeout="1s"))
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        set_up(balancer, tables_with("a", connection_drain_timeout="1s"))
        moment = time.monotonic()
        live["b"].ping(b"still here" * 1000)
        for _ in range(4):
            with closing(Greeted(balancer.port("plain"))) as client:
                assert client.server == "a"
        live["b"].read_to_end()
        assert 0.5 < time.monotonic() - moment < 5
        assert balancer.line(live["b"])["termination"] == "drained"
        live["a"].ping()


def test_without_drain(balancer: Balancer, tables_with: Callable[..., Tables]) -> None:
    """`connection_drain = false`: nobody is cut."""
    set_up(balancer, tables_with("ab", connection_drain=False, connection_drain_timeout="0s"))
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        set_up(balancer, tables_with("a", connection_drain=False, connection_drain_timeout="0s"))
        stays(lambda: live["b"].ping() < 5, "the connection to the removed server", 0.7)


def test_removed_and_back(balancer: Balancer, tables_with: Callable[..., Tables]) -> None:
    """Back before the time is over: the same server as before, with the connection that it still has."""
    set_up(balancer, tables_with("ab", connection_drain_timeout="1s"))
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        set_up(balancer, tables_with("a", connection_drain_timeout="1s"))
        set_up(balancer, tables_with("ab", connection_drain_timeout="1s"))
        stays(lambda: live["b"].ping() < 5, "the connection to the server that has come back", 1.8)
        (entry,) = (one for one in balancer.ask("status")["server_groups"][0]["servers"] if one["name"] == "b")
        assert entry["connections"] >= 1
        assert {one.server for one in one_of_each(stack, balancer).values()} == {"a", "b"}


def test_other_address(balancer: Balancer, tables_with: Callable[..., Tables]) -> None:
    """The same name at another address: new connections go there, the open one stays where it is."""
    set_up(balancer, tables_with("a"))
    with Backend(greet(b"x")) as elsewhere, closing(Greeted(balancer.port("plain"))) as live:
        new = tables_with("a")
        new["server_groups"]["app"]["servers"] = [elsewhere.entry(name="a")]
        set_up(balancer, new)
        with closing(Greeted(balancer.port("plain"))) as client:
            assert (live.server, client.server) == ("a", "x")
        live.ping()
