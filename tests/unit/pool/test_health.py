"""The judge over health checks, what is checked according to the configuration, and when a group fails open."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.address import Endpoint
from nlbcore.config.model import Config
from nlbcore.pool.health import Check, Judge, Usable, checks, from_json, to_json
from nlbcore.segment import (
    AVAILABLE,
    DRAIN,
    INITIAL,
    MAINT,
    READY,
    REASONS,
    STATES,
    UNAVAILABLE,
    UNHEALTHY,
    Segment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK = Check(
    row=3,
    group="app",
    server="a",
    address=Endpoint.parse("127.0.0.1:80"),
    weight=100,
    enabled=True,
    type="TCP",
    interval=5.0,
    connect_timeout=4.0,
    healthy_threshold=3,
    unhealthy_threshold=2,
    port=0,
)
FAILED, TIMEOUT = "CONNECT_FAILED", "CONNECT_TIMEOUT"
RESULTS = st.lists(st.sampled_from(["", FAILED, TIMEOUT]), max_size=60)


def states(judge: Judge, results: list[str]) -> list[int]:
    """The state after each result; "" is a success."""
    found = []
    for result in results:
        before = judge.state
        changed = judge.failure(result) if result else judge.success()
        assert changed == (judge.state != before)
        found.append(judge.state)
    return found


def test_first_success_is_enough() -> None:
    assert states(Judge(10, 10), [""]) == [AVAILABLE]


def test_failures_in_a_row() -> None:
    judge = Judge(2, 3)
    assert states(judge, [FAILED, FAILED, TIMEOUT]) == [INITIAL, INITIAL, UNHEALTHY]
    assert judge.reason == TIMEOUT
    judge = Judge(2, 3)
    assert states(judge, ["", FAILED, FAILED, "", FAILED, FAILED, FAILED])[-2:] == [AVAILABLE, UNHEALTHY]


def test_back_again() -> None:
    judge = Judge(2, 2)
    assert states(judge, [FAILED, FAILED, "", FAILED, "", ""]) == [INITIAL, *[UNHEALTHY] * 4, AVAILABLE]
    assert judge.reason == ""


def test_a_failure_before_the_first_success_does_not_count_against_it() -> None:
    assert states(Judge(5, 2), [FAILED, ""]) == [INITIAL, AVAILABLE]


def test_the_reason_is_that_of_the_last_failure() -> None:
    judge = Judge(3, 2)
    states(judge, [FAILED, FAILED, "", TIMEOUT])
    assert (judge.state, judge.reason) == (UNHEALTHY, TIMEOUT)


@given(st.integers(1, 10), st.integers(1, 10), RESULTS)
def test_against_the_words_of_the_manual(healthy: int, unhealthy: int, results: list[str]) -> None:
    """The state after each result, told from the whole history instead of step by step."""
    state = INITIAL
    for length, found in enumerate(states(Judge(healthy, unhealthy), results), 1):
        bad = length >= unhealthy and all(results[length - unhealthy : length])
        good = length >= healthy and not any(results[length - healthy : length])
        if bad:
            state = UNHEALTHY
        elif not results[length - 1] and (state != UNHEALTHY or good):
            state = AVAILABLE
        assert found == state


@given(st.integers(2, 10), st.integers(2, 10), RESULTS)
def test_reason_if_and_only_if_unhealthy(healthy: int, unhealthy: int, results: list[str]) -> None:
    judge = Judge(healthy, unhealthy)
    for result in results:
        states(judge, [result])
        assert (judge.state == UNHEALTHY) == bool(judge.reason)
        assert judge.reason in REASONS


@given(st.integers(2, 10), RESULTS)
def test_it_never_changes_twice_within_a_threshold(threshold: int, results: list[str]) -> None:
    """What the thresholds are for: a server that answers now and then does not flap."""
    found = states(Judge(threshold, threshold), results)
    changes = [at for at in range(1, len(found)) if found[at] != found[at - 1]]
    assert all(after - before >= threshold for before, after in pairwise(changes))


@pytest.mark.parametrize("state", range(len(STATES)))
def test_resume(state: int) -> None:
    judge = Judge.resume(CHECK, state, FAILED if state == UNHEALTHY else "")
    assert judge.state == (state if state in (AVAILABLE, UNHEALTHY) else INITIAL)
    assert judge.reason == (FAILED if state == UNHEALTHY else "")
    assert (judge.healthy_threshold, judge.unhealthy_threshold) == (3, 2)


@pytest.mark.parametrize("state", range(len(STATES)))
def test_resume_what_is_not_checked(state: int) -> None:
    judge = Judge.resume(replace(CHECK, enabled=False), state, FAILED)
    assert (judge.state, judge.reason) == (UNAVAILABLE, "")


def test_resumed_counts_begin_anew() -> None:
    assert states(Judge.resume(CHECK, UNHEALTHY, FAILED), ["", "", ""]) == [UNHEALTHY, UNHEALTHY, AVAILABLE]
    assert states(Judge.resume(CHECK, AVAILABLE, ""), [FAILED, FAILED]) == [AVAILABLE, UNHEALTHY]


@pytest.mark.parametrize(
    ("listeners", "port", "header"),
    [
        ((), 0, b""),
        (("off",), 0, b""),
        (("v1",), 0, b"PROXY UNKNOWN\r\n"),
        (("v2", "v2"), 0, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
        (("v2", "v1"), 0, b"PROXY UNKNOWN\r\n"),
        (("v2", "off"), 0, b""),
        (("v2",), 81, b""),
    ],
)
def test_the_header_that_servers_expect(listeners: tuple[str, ...], port: int, header: bytes) -> None:
    """What all listeners of the group send; another port is another service."""
    config = Config.model_validate(
        {
            "listeners": {
                f"l{number}": {"bind": f"127.0.0.1:{number}", "server_group": "app", "proxy_protocol": version}
                for number, version in enumerate(listeners, 1)
            }
            | {"other": {"bind": "127.0.0.1:99", "server_group": "elsewhere"}},
            "server_groups": {"app": {"servers": [{"address": "10.0.0.1:80"}], "health_check": {"port": port}}},
        }
    )
    (check,) = checks(config, {("app", "10.0.0.1:80"): 0})
    assert check.header == header
    assert from_json(to_json([check])) == [check]


def test_checks_of_a_configuration() -> None:
    health: dict[str, Any] = {"interval": "2s", "connect_timeout": "3s", "healthy_threshold": 4, "port": 81}
    config = Config.model_validate(
        {
            "server_groups": {
                "app": {
                    "servers": [
                        {"name": "a", "address": "10.0.0.1:80", "weight": 7},
                        {"address": "unix:/run/app.sock"},
                    ],
                    "health_check": health,
                },
                "off": {"servers": [{"address": "[fe80::1%eth0]:80"}], "health_check": {"enabled": False}},
                "empty": {},
            }
        },
        context={"base": Path("/")},
    )
    found = checks(config, {("app", "a"): 5, ("app", "unix:/run/app.sock"): 0, ("off", "[fe80::1%eth0]:80"): 9})
    assert [(one.row, one.group, one.server, one.weight, one.enabled) for one in found] == [
        (5, "app", "a", 7, True),
        (0, "app", "unix:/run/app.sock", 100, True),
        (9, "off", "[fe80::1%eth0]:80", 100, False),
    ]
    assert [str(one.target) for one in found] == ["10.0.0.1:81", "unix:/run/app.sock", "[fe80::1%eth0]:80"]
    first = found[0]
    assert (first.interval, first.connect_timeout, first.healthy_threshold, first.unhealthy_threshold) == (2, 3, 4, 2)
    assert (found[2].interval, found[2].connect_timeout, found[2].type, found[2].port) == (5, 5, "TCP", 0)
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize("address", ["127.0.0.1:80", "[2001:db8::1]:443", "[fe80::1%2]:80", "unix:/run/ä b.sock"])
def test_json_keeps_everything(address: str) -> None:
    check = replace(CHECK, address=Endpoint.parse(address), interval=0.05, server="ä")
    assert from_json(to_json([check])) == [check]
    assert from_json(to_json([check]).encode()) == [check]


def test_the_same_check() -> None:
    assert CHECK.is_same(replace(CHECK, weight=0))
    for other in (
        replace(CHECK, interval=6.0),
        replace(CHECK, address=Endpoint.parse("127.0.0.1:81")),
        replace(CHECK, enabled=False),
        replace(CHECK, row=4),
    ):
        assert not CHECK.is_same(other)


class Servers:
    """Four servers of one group, of weights 0 to 3, with verdicts and orders in a segment."""

    def __init__(self) -> None:
        self.segment = Segment.create(1)
        self.checks = [replace(CHECK, row=number, server=str(number), weight=number) for number in range(4)]
        self.usable = Usable(self.segment, self.checks)

    def set(
        self, number: int, state: int | None = None, *, waits: int = 0, order: int = READY, weight: int = 0
    ) -> None:
        """`weight` is one more than that of the order."""
        verdict, ordered = self.segment.verdicts[number], self.segment.shared.orders[number]
        if state is not None:
            verdict.state, verdict.waits = state, waits
        ordered.state, ordered.weight_and_one = order, weight
        self.usable.update(self.checks[number])

    def fails_open(self) -> bool:
        """The same for who has looked all the time and who looks now."""
        answer = self.usable.fails_open("app")
        assert answer == Usable(self.segment, self.checks).fails_open("app")
        assert self.usable.failing_open == ({"app"} if answer else set())
        return answer


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    os.close(made.segment.fd)
    del made.segment, made.usable


def test_a_group_fails_open_with_its_last_usable_server_and_recovers_with_the_first(servers: Servers) -> None:
    found = []
    for number, state in ((1, UNHEALTHY), (2, UNHEALTHY), (3, UNHEALTHY), (2, AVAILABLE), (1, AVAILABLE)):
        servers.set(number, state)
        found.append(servers.fails_open())
    assert found == [False, False, True, False, False]
    assert not servers.usable.fails_open("other")


@pytest.mark.parametrize(("state", "usable"), list(enumerate([True, True, False, True, True])))
def test_usable_states(servers: Servers, state: int, usable: bool) -> None:
    for number in (1, 2, 3):
        servers.set(number, UNHEALTHY)
    servers.set(1, state)
    assert servers.fails_open() == (not usable)


def test_who_is_not_in_service_does_not_count(servers: Servers) -> None:
    """Without weight, by the file or by order, or ordered out."""
    servers.set(1, UNHEALTHY)
    servers.set(2, UNHEALTHY)
    assert not servers.fails_open(), "the third is good"
    for out in ({"order": DRAIN}, {"order": MAINT}, {"weight": 1}):
        servers.set(3, **out)
        assert servers.fails_open()
        servers.set(3)
        assert not servers.fails_open()
    servers.set(3, order=MAINT)
    servers.set(0, weight=11)
    assert not servers.fails_open(), "the one without weight has been given one"
    servers.set(0, order=DRAIN, weight=11)
    servers.set(1, order=DRAIN)
    servers.set(2, weight=1)
    assert not servers.fails_open(), "there is nobody to whom connections could go"


def test_who_waits_for_the_first_verdict_is_not_usable_and_not_bad_either(servers: Servers) -> None:
    for number in (1, 2, 3):
        servers.set(number, INITIAL, waits=1)
    assert not servers.fails_open()
    servers.set(1, UNHEALTHY)
    assert servers.fails_open()
    servers.set(2, INITIAL)
    assert not servers.fails_open()
    servers.set(2, AVAILABLE, waits=1)
    assert not servers.fails_open(), "only Initial waits"


MOVES = st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans(), st.integers(0, 2), st.integers(0, 3))


@given(st.lists(MOVES, max_size=30))
def test_fail_open_against_a_count(moves: list[tuple[int, int, bool, int, int]]) -> None:
    """After any history."""
    servers = Servers()
    asked: dict[int, bool] = dict.fromkeys((1, 2, 3), True)
    bad: dict[int, bool] = {}
    good: dict[int, bool] = dict.fromkeys(range(4), True)
    for number, state, waits, order, weight in moves:
        servers.set(number, state, waits=waits, order=order, weight=weight)
        asked[number] = order == READY and (weight - 1 if weight else number) > 0
        bad[number] = state == UNHEALTHY
        good[number] = state != UNHEALTHY and not (state == INITIAL and waits)
        usable = [one for one, yes in asked.items() if yes and good[one]]
        assert servers.fails_open() == (not usable and any(yes and bad.get(one, False) for one, yes in asked.items()))
    os.close(servers.segment.fd)
