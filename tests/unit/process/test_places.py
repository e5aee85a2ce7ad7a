"""Rows of the segment: clean for whom they are given to, drained when a reload takes one out; and the operator's orders."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.errors import NlbError
from nlbcore.process.places import Places
from nlbcore.segment import AVAILABLE, DRAIN, INITIAL, MAINT, READY, UNHEALTHY, Segment
from tests.unit.process.generations import config, generation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.config.model import Config
    from nlbcore.process.snapshot import Snapshot

SLOTS = 2
TWO = {"app": {"a": 100, "b": 50}}


@pytest.fixture(scope="module")
def shared() -> Iterator[Segment]:
    made = Segment.create(SLOTS + 1)
    made.use(SLOTS)
    yield made
    os.close(made.fd)


@pytest.fixture
def segment(shared: Segment) -> Segment:
    """A segment of which all but one slot are used, as new."""
    shared.shared.slots = 0
    for part in (shared.shared, *(shared.block(slot) for slot in range(SLOTS + 1))):
        ctypes.memset(ctypes.addressof(part), 0, ctypes.sizeof(part))
    shared.use(SLOTS)
    return shared


def now() -> int:
    return time.monotonic_ns() // 1_000_000


def order(segment: Segment, row: int) -> tuple[int, int, int]:
    """State, weight and one, seconds until its connections are cut (0: never)."""
    one = segment.shared.orders[row]
    return one.state, one.weight_and_one, round((one.cut_ms - now()) / 1000) if one.cut_ms else 0


def reload(places: Places, number: int, made: Config, *living: Snapshot) -> Snapshot:
    """Bring a generation into force beside the living ones, the newest last."""
    rows = [one.rows for one in living]
    new = generation(number, made, rows)
    places.prepare(new.rows, rows)
    places.enforce(living[-1], new)
    return new


# -- rows ----------------------------------------------------------------------------------------------------------------


def soil(segment: Segment, listener: int, server: int, group: int = 0) -> None:
    """What a row's last owner has left there."""
    for slot in range(SLOTS):
        block = segment.block(slot)
        block.listeners[listener].connections = block.listeners[listener].live = 7
        block.listeners[listener].handshake_time.sum_us = block.listeners[listener].expiring[3] = 7
        block.servers[server].connections = block.servers[server].connect_failed = 7
        block.groups[group].connect_time.buckets[3] = block.groups[group].connect_time.sum_us = 7
    segment.shared.cps_due[listener] = segment.shared.listener_cut_ms[listener] = 7
    segment.verdicts[server].state, segment.verdicts[server].reason = UNHEALTHY, 2
    segment.verdicts[server].since_ms = 7
    segment.shared.orders[server].state, segment.shared.orders[server].weight_and_one = MAINT, 7
    segment.shared.orders[server].cut_ms = 7


def is_clean(segment: Segment, listener: int, server: int, group: int = 0) -> bool:
    blocks = [segment.block(slot) for slot in range(SLOTS)]
    rows = [row for block in blocks for row in (block.listeners[listener], block.servers[server], block.groups[group])]
    clean = all(not any(bytes(row)) for row in rows)
    return clean and not segment.shared.cps_due[listener] and order(segment, server) == (READY, 0, 0)


def test_a_row_is_clean_for_the_next_one(segment: Segment) -> None:
    """In all blocks that were ever used; those that nobody has used are not touched, that would cost memory."""
    first = generation(1, config(TWO, {"web": "app"}))
    places = Places(segment, first)
    assert (first.rows.listeners, first.rows.servers) == ({"web": 0}, {("app", "a"): 0, ("app", "b"): 1})
    soil(segment, 0, 1)
    segment.block(SLOTS).servers[1].connections = 9
    second = generation(2, config({"new": {"a": 1, "b": 1}}, {"next": "new"}))
    assert second.rows.listeners == {"next": 0}
    places.prepare(second.rows, [])
    assert is_clean(segment, 0, 1)
    assert segment.block(SLOTS).servers[1].connections == 9
    assert segment.block(0).listeners[1].connections == 0


def test_a_row_in_use_is_left_alone(segment: Segment) -> None:
    """Also when the generation in force has it no more and only an earlier one does; and again for the same server."""
    first = generation(1, config(TWO, {"web": "app"}))
    places = Places(segment, first)
    second = reload(places, 2, config({"app": {"a": 100}}, {"web": "app"}), first)
    soil(segment, 0, 1)
    third = generation(3, config(TWO, {"web": "app"}), [first.rows, second.rows])
    assert third.rows.servers == first.rows.servers
    before = bytes(segment.block(0).servers[1]), bytes(segment.block(0).groups[0]), order(segment, 1)
    places.prepare(third.rows, [first.rows, second.rows])
    after = bytes(segment.block(0).servers[1]), bytes(segment.block(0).groups[0]), order(segment, 1)
    assert after == before
    assert segment.block(1).listeners[0].connections == 7
    assert not segment.verdicts[1].waits


def test_a_server_that_is_new_waits_for_its_first_verdict(segment: Segment) -> None:
    """On a row that nobody has had, and on one that somebody has; those that are there keep what is known of them."""
    first = generation(1, config({"app": {"a": 1}}))
    places = Places(segment, first)
    segment.verdicts[0].state = AVAILABLE
    before = time.time_ns() // 1_000_000
    second = reload(places, 2, config(TWO), first)
    fresh = segment.verdicts[second.rows.servers["app", "b"]]
    assert (fresh.state, fresh.reason, fresh.waits) == (INITIAL, 0, 1)
    assert before <= fresh.since_ms <= time.time_ns() // 1_000_000
    assert (segment.verdicts[0].state, segment.verdicts[0].waits, segment.verdicts[0].since_ms) == (AVAILABLE, 0, 0)
    fresh.state, fresh.waits, fresh.reason, fresh.since_ms = UNHEALTHY, 0, 1, 5
    third = reload(places, 3, config({"app": {"a": 1, "c": 1}}), second)
    assert third.rows.servers["app", "c"] == 2, "b is being drained"
    fourth = reload(places, 4, config({"app": {"a": 1, "c": 1, "d": 1}}), third)
    assert fourth.rows.servers["app", "d"] == 1, "b is no more"
    assert (fresh.state, fresh.reason, fresh.waits) == (INITIAL, 0, 1)
    assert fresh.since_ms >= before
    assert order(segment, 1) == (READY, 0, 0)


def test_a_generation_that_did_not_come_into_force(segment: Segment) -> None:
    """Its rows are clean again for the next one, whoever gets them."""
    first = generation(1, config({"app": {"a": 1}}))
    places = Places(segment, first)
    refused = generation(2, config(TWO), [first.rows])
    places.prepare(refused.rows, [first.rows])
    soil(segment, 1, 1)
    places.prepare(generation(3, config({"app": {"a": 1, "z": 1}}), [first.rows]).rows, [first.rows])
    assert order(segment, 1) == (READY, 0, 0)
    assert segment.block(0).servers[1].connections == 0


# -- what a reload takes out, and brings back ----------------------------------------------------------------------------


def test_a_listener_that_is_taken_out(segment: Segment) -> None:
    """Its connections are cut when the time to drain is over, unless it comes again before."""
    both, one = {"web": "app", "more": "app"}, {"web": "app"}
    first = generation(1, config(TWO, both, node={"drain_timeout": "7s"}))
    places = Places(segment, first)
    cuts = segment.shared.listener_cut_ms
    second = reload(places, 2, config(TWO, one), first)
    assert 6500 < cuts[1] - now() <= 7001
    assert cuts[0] == 0
    cut = cuts[1]
    third = reload(places, 3, config(TWO, one), first, second)
    assert cuts[1] == cut, "the clock is not wound up again"
    reload(places, 4, config(TWO, both), first, third)
    assert list(cuts[:2]) == [0, 0]


def test_no_time_to_drain_is_no_time_at_all(segment: Segment) -> None:
    """0 says never in the segment, and `drain_timeout = 0` does not."""
    first = generation(1, config(TWO, {"web": "app", "more": "app"}, node={"drain_timeout": "0s"}))
    reload(Places(segment, first), 2, config(TWO, {"web": "app"}), first)
    assert 0 < segment.shared.listener_cut_ms[1] <= now() + 1


@pytest.mark.parametrize(
    ("drain", "seconds"), [({"connection_drain": False}, 0), ({"connection_drain_timeout": "30s"}, 30)]
)
def test_a_server_that_is_taken_out(segment: Segment, drain: dict[str, Any], seconds: int) -> None:
    """It gets nothing new at once, in generations that still know it, as its group said."""
    group = {"connection_drain": True, **drain}
    first = generation(1, config(TWO, app=group))
    places = Places(segment, first)
    second = reload(places, 2, config({"app": {"b": 50}}, app=group), first)
    assert order(segment, 0) == (DRAIN, 0, seconds)
    assert order(segment, 1) == (READY, 0, 0)
    third = reload(places, 3, config(TWO, app=group), first, second)
    assert third.rows.servers == first.rows.servers
    assert order(segment, 0) == (READY, 0, 0), "it is back"


def test_what_comes_back_is_what_it_was(segment: Segment) -> None:
    """The operator's order is not forgotten over a reload that takes the server out and one that brings it back."""
    first = generation(1, config(TWO))
    places = Places(segment, first)
    places.obey(first, {"server_group": "app", "server": "a", "do": "maint"})
    places.obey(first, {"server_group": "app", "server": "a", "do": "weight", "weight": 3})
    second = reload(places, 2, config({"app": {"b": 50}}), first)
    assert order(segment, 0)[0] == DRAIN
    reload(places, 3, config(TWO), first, second)
    assert order(segment, 0)[:2] == (MAINT, 4)


def test_a_group_that_is_taken_out(segment: Segment) -> None:
    first = generation(1, config({"app": {"a": 1}, "old": {"a": 1, "b": 1}}))
    places = Places(segment, first)
    second = reload(places, 2, config({"app": {"a": 1}}), first)
    assert [order(segment, row)[0] for row in range(4)] == [READY, DRAIN, DRAIN, READY]
    reload(places, 3, config({"app": {"a": 1}, "old": {"b": 1}}), first, second)
    assert [order(segment, row)[0] for row in range(4)] == [READY, DRAIN, READY, READY]


def test_a_server_that_the_operator_has_drained_stays_so(segment: Segment) -> None:
    """A reload that keeps it is no order to take it back."""
    first = generation(1, config(TWO))
    places = Places(segment, first)
    places.obey(first, {"server_group": "app", "server": "a", "do": "maint"})
    reload(places, 2, config({"app": {"a": 100}}), first)
    assert order(segment, 0)[0] == MAINT


def test_weights_of_the_operator_stay_unless_the_file_changes(segment: Segment) -> None:
    first = generation(1, config(TWO))
    places = Places(segment, first)
    for name, weight in (("a", 7), ("b", 0)):
        places.obey(first, {"server_group": "app", "server": name, "do": "weight", "weight": weight})
    second = reload(places, 2, config({"app": {"a": 100, "b": 50, "c": 1}}), first)
    assert [order(segment, row)[1] for row in range(3)] == [8, 1, 0]
    reload(places, 3, config({"app": {"a": 100, "b": 51, "c": 1}}), second)
    assert [order(segment, row)[1] for row in range(3)] == [8, 0, 0]


# -- the operator --------------------------------------------------------------------------------------------------------


def obey(places: Places, snapshot: Snapshot, server: str, do: str, **more: object) -> dict[str, Any]:
    return places.obey(snapshot, {"server_group": "app", "server": server, "do": do, **more})


def test_orders(segment: Segment) -> None:
    """Each says what the server is now, and how many connections it has."""
    first = generation(1, config(TWO, app={"connection_drain": True, "connection_drain_timeout": "30s"}))
    places = Places(segment, first)
    for slot in range(SLOTS):
        segment.block(slot).servers[1].live = 3 + slot
    segment.block(SLOTS).servers[1].live = 100  # of a slot that was never used
    answer = {"server_group": "app", "server": "b", "weight": 50, "connections": 7}
    assert obey(places, first, "b", "drain") == {**answer, "admin": "drain"}
    assert order(segment, 1) == (DRAIN, 0, 30)
    assert obey(places, first, "b", "maint") == {**answer, "admin": "maint"}
    assert segment.shared.orders[1].cut_ms <= now(), "at once"
    assert order(segment, 1)[0] == MAINT
    assert obey(places, first, "b", "weight", weight=0) == {**answer, "admin": "maint", "weight": 0}
    assert obey(places, first, "b", "weight", weight=100) == {**answer, "admin": "maint", "weight": 100}
    assert order(segment, 1)[:2] == (MAINT, 101)
    assert obey(places, first, "b", "ready") == {**answer, "admin": "ready", "weight": 100}
    assert order(segment, 1) == (READY, 101, 0)
    assert order(segment, 0) == (READY, 0, 0), "the others are not touched"


def test_draining_without_an_end(segment: Segment) -> None:
    """A group that does not cut connections: they end by themselves."""
    first = generation(1, config(TWO, app={"connection_drain": False}))
    obey(Places(segment, first), first, "a", "drain")
    assert order(segment, 0) == (DRAIN, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server_group": "no", "server": "a"}, 'there is no server group "no"; there are: app, empty'),
        ({}, 'there is no server group ""; there are: app, empty'),
        ({"server_group": "app", "server": "c"}, 'there is no server "c" in app; there are: a, b'),
        ({"server_group": "app"}, 'there is no server "" in app; there are: a, b'),
        ({"server_group": "empty", "server": "a"}, 'there is no server "a" in empty; there are: none'),
        ({"server_group": ["app"], "server": "a"}, "there is no server group"),
        ({"server_group": "app", "server": ["a"]}, "there is no server"),
        ({"server_group": "app", "server": "a"}, '"" is no order for a server; there are: ready, drain, maint, weight'),
        ({"server_group": "app", "server": "a", "do": "stop"}, '"stop" is no order'),
        ({"server_group": "app", "server": "a", "do": ["ready"]}, "is no order"),
        *(
            (
                {"server_group": "app", "server": "a", "do": "weight", "weight": weight},
                "a weight is a number from 0 to 100",
            )
            for weight in (-1, 101, None, "5", 5.0, True)
        ),
    ],
    ids=str,
)
def test_what_is_no_order(segment: Segment, arguments: dict[str, Any], message: str) -> None:
    """Whatever comes from the control socket."""
    first = generation(1, config({**TWO, "empty": {}}))
    with pytest.raises(NlbError) as caught:
        Places(segment, first).obey(first, arguments)
    assert message in str(caught.value)
    assert order(segment, 0) == (READY, 0, 0)
