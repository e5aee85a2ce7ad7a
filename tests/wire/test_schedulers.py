"""Schedulers: `rr` in turn, `wrr` by weight and smoothly, weight 0 gets nothing; the log names the server."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def servers(use: Callable[[Any], Any]) -> dict[str, Backend]:
    """Three servers that greet with their name."""
    return {name: use(Backend(backends.greet(name.encode()))) for name in "abc"}


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], servers: dict[str, Backend]) -> Balancer:
    """A plain listener per group."""

    def group(scheduler: str | None, *weights: int | None) -> dict[str, object]:
        entries = [
            server.entry(name=name, **({} if weight is None else {"weight": weight}))
            for (name, server), weight in zip(servers.items(), weights, strict=False)
        ]
        return server_group(*entries, **({} if scheduler is None else {"scheduler": scheduler}))

    groups = {
        "rr": group("rr", 100, 100, 100),
        "rr_any_weight": group("RR", 10, 90, 50),
        "rr_zero": group("rr", 100, 0, 100),
        "wrr_equal": group("wrr", 100, 100, 100),
        "wrr_two_to_one": group("wrr", 100, 50, 0),
        "wrr_smooth": group("WRR", 5, 1, 1),
        "wrr_default": group(None, None, None, None),
    }
    return balancer_for({"listeners": {name: plain_listener(group=name) for name in groups}, "server_groups": groups})


def visits(balancer: Balancer, listener: str, count: int) -> str:
    """The names of the servers that answered, in order."""
    names = ""
    for _ in range(count):
        with connect(balancer.port(listener)) as sock:
            names += sock.recv(1).decode()
    return names


@pytest.mark.parametrize("listener", ["rr", "rr_any_weight", "wrr_equal", "wrr_default"])
def test_in_turn(balancer: Balancer, listener: str) -> None:
    """Each of three servers once in every three connections; `rr` does not look at weights but for 0."""
    names = visits(balancer, listener, 30)
    assert {frozenset(names[start : start + 3]) for start in range(0, 30, 3)} == {frozenset("abc")}
    assert names[:3] * 10 == names


def test_weights(balancer: Balancer, servers: dict[str, Backend]) -> None:
    """100 to 50 to 0."""
    servers["c"].forget()
    names = visits(balancer, "wrr_two_to_one", 30)
    assert {name: names.count(name) for name in "abc"} == {"a": 20, "b": 10, "c": 0}
    assert servers["c"].accepted == 0


def test_weight_zero_under_rr(balancer: Balancer) -> None:
    """No new connections for weight 0, whatever the scheduler."""
    assert set(visits(balancer, "rr_zero", 10)) == {"a", "c"}


def test_smooth(balancer: Balancer) -> None:
    """5 to 1 to 1: exact over every seven, and the heavy one does not get its five in a row."""
    names = visits(balancer, "wrr_smooth", 21)
    for start in range(0, 21, 7):
        seven = names[start : start + 7]
        assert {name: seven.count(name) for name in "abc"} == {"a": 5, "b": 1, "c": 1}
    assert max(len(list(run)) for name, run in groupby(names[:7]) if name == "a") < 5


def test_log_names_the_server(balancer: Balancer) -> None:
    """`server` and `server_group` of each line are those that answered."""
    with connect(balancer.port("rr")) as sock:
        name = sock.recv(1).decode()
        sock.shutdown(1)
        line = balancer.line(sock)
    assert (line["server_group"], line["server"]) == ("rr", name)
