"""Alive and ready, for hand-made balancers in all conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nlbcore.admin.health import NoSuchGroupError, alive, ready
from nlbcore.facts import Facts
from tests.unit.admin.published import Published

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def balancer() -> Iterator[Published]:
    with Published() as made:
        yield made


def alive_now(balancer: Published) -> list[str]:
    return alive(balancer.facts, balancer.segment)


def ready_now(balancer: Published, group: str | None = None) -> list[str]:
    return ready(balancer.facts, balancer.segment, group)


def states(balancer: Published, *states: str) -> None:
    workers = [one | {"state": state} for one, state in zip(balancer.told["workers"], states, strict=True)]
    balancer.tell(workers=workers)


def test_in_good_health(balancer: Published) -> None:
    assert alive_now(balancer) == []
    assert ready_now(balancer) == []
    assert ready_now(balancer, "app") == []


def test_a_worker_without_a_heart_beat(balancer: Published) -> None:
    """Its slot is served by the other one."""
    balancer.beat(1)
    states(balancer, "running", "stuck")
    (wrong,) = alive_now(balancer)
    assert wrong.startswith("worker 1 (stuck) has not answered for 4.")
    assert ready_now(balancer) == []


@pytest.mark.parametrize("state", ["retiring", "retired", "ended"])
def test_a_worker_that_was_taken_out_need_not_answer(balancer: Published, state: str) -> None:
    balancer.beat(1)
    states(balancer, "running", state)
    assert alive_now(balancer) == []
    assert ready_now(balancer) == []


@pytest.mark.parametrize("silent", [True, False])
def test_nobody_serves(balancer: Published, silent: bool) -> None:
    if silent:
        balancer.beat(0, 1)
    else:
        states(balancer, "down", "starting")
    assert ready_now(balancer) == ["no worker is running"]


def test_the_supervisor_is_silent(balancer: Published) -> None:
    """Which hurts no client yet."""
    balancer._writer._map[16:24] = bytes(8)
    assert alive_now(balancer) == ["the supervisor has not answered yet"]
    assert ready_now(balancer) == []


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_not_running(balancer: Published, state: str) -> None:
    balancer.tell(state=state)
    assert alive_now(balancer) == []
    assert ready_now(balancer) == [f"the balancer is {state}"]


def test_nothing_is_known_yet(balancer: Published) -> None:
    facts = Facts.create()
    with open(facts.fd, "rb"):
        assert alive(facts, balancer.segment) == ["the supervisor has not answered yet"]
        assert ready(facts, balancer.segment) == [
            "the balancer is starting",
            "no configuration is in force yet",
            "no worker is running",
        ]


def test_a_group(balancer: Published) -> None:
    """A server is usable if it is meant to get connections and its checks have nothing against it."""
    refused = ["server group app has no usable server"]
    balancer.judge(7, "Unhealthy", "CONNECT_FAILED")
    assert ready_now(balancer, "app") == []
    balancer.order(8, "maint")
    assert ready_now(balancer, "app") == refused
    balancer.order(8, weight=0)
    assert ready_now(balancer, "app") == refused
    assert ready_now(balancer) == []
    balancer.order(8, weight=1)
    assert ready_now(balancer, "app") == []
    with pytest.raises(NoSuchGroupError, match='no server group "other"'):
        ready_now(balancer, "other")
