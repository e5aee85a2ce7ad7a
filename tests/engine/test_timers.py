"""The timer wheel on a clock that the test turns: what fires, when, and how long the loop may sleep."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

TICK = 16
HORIZON = 4096 * TICK
TIMERS = 8
START = 1_000_003


@pytest.fixture(params=[START, TICK * 10_000, TICK * 10_000 - 1])
def start(request: pytest.FixtureRequest) -> int:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def wheel(door: Any, start: int) -> Any:
    return door.Wheel(TIMERS, start)


def fired_at(wheel: Any, begin: int, until: int, step: int = 1) -> dict[int, int]:
    """When each timer fires, the clock going on by `step` ms."""
    found: dict[int, int] = {}
    for now in range(begin, until, step):
        wheel.turn(now)
        for number in wheel.due():
            assert number not in found
            found[number] = now
    return found


def test_an_empty_wheel_lets_the_loop_sleep(wheel: Any) -> None:
    assert wheel.wait() == -1
    assert wheel.due() == []


def test_each_fires_once_within_a_tick_of_its_deadline(wheel: Any, start: int) -> None:
    deadlines = {0: start + 1, 1: start + 15, 2: start + 16, 3: start + 17, 4: start + 500, 5: start + 501}
    for number, deadline in deadlines.items():
        wheel.set(number, deadline)
    found = fired_at(wheel, start, start + 600)
    assert set(found) == set(deadlines)
    for number, deadline in deadlines.items():
        assert deadline <= found[number] < deadline + TICK
    assert wheel.wait() == -1


def test_what_is_over_fires_in_order_of_ticks(wheel: Any, start: int) -> None:
    for number, ahead in enumerate((300, 100, 200, 400)):
        wheel.set(number, start + ahead)
    wheel.turn(start + 350)
    assert wheel.due() == [1, 2, 0]
    wheel.turn(start + 1000)
    assert wheel.due() == [3]


def test_moved_later(wheel: Any, start: int) -> None:
    """As every byte moves the idle timer: it costs nothing until the old tick."""
    wheel.set(0, start + 100)
    for ahead in range(200, 5000, 100):
        wheel.set(0, start + ahead)
    assert wheel.wait() <= 100 + TICK, "it may wake the loop at the old tick"
    assert fired_at(wheel, start, start + 5200).keys() == {0}


def test_moved_later_does_not_fire_early(wheel: Any, start: int) -> None:
    wheel.set(0, start + 100)
    wheel.set(0, start + 1000)
    found = fired_at(wheel, start, start + 2000)
    assert start + 1000 <= found[0] < start + 1000 + TICK


def test_moved_earlier(wheel: Any, start: int) -> None:
    wheel.set(0, start + 50_000)
    wheel.set(0, start + 100)
    assert wheel.wait() <= 100 + TICK
    found = fired_at(wheel, start, start + 200)
    assert start + 100 <= found[0] < start + 100 + TICK


def test_cleared(wheel: Any, start: int) -> None:
    for number in range(3):
        wheel.set(number, start + 100)
    wheel.clear(1)
    wheel.clear(1)
    wheel.set(2, 0)  # never
    assert fired_at(wheel, start, start + 200).keys() == {0}
    assert [wheel.armed(number) for number in range(3)] == [False] * 3


def test_a_deadline_that_is_over_fires_at_the_next_tick(wheel: Any, start: int) -> None:
    wheel.set(0, 1)
    wheel.set(1, start)
    assert wheel.wait() <= TICK
    wheel.turn(start + TICK)
    assert sorted(wheel.due()) == [0, 1]


@pytest.mark.parametrize("ahead", [HORIZON - TICK, HORIZON, HORIZON + 1, 3 * HORIZON + 5, 900_000, 86_400_000])
def test_beyond_the_horizon(wheel: Any, start: int, ahead: int) -> None:
    wheel.set(0, start + ahead)
    now = start
    for _ in range(ahead // HORIZON * 2 + 10):
        wait = wheel.wait()
        if wait < 0:
            break
        assert wait <= HORIZON
        now += max(wait, 1)
        wheel.turn(now)
        if wheel.due():
            break
    assert start + ahead <= now < start + ahead + TICK


def test_a_long_sleep(wheel: Any, start: int) -> None:
    """The machine was suspended: everything that is over fires once, what is not stays."""
    for number, ahead in enumerate((10, HORIZON // 2, HORIZON - 20, 5 * HORIZON, 50 * HORIZON)):
        wheel.set(number, start + ahead)
    wheel.turn(start + 20 * HORIZON)
    assert sorted(wheel.due()) == [0, 1, 2, 3]
    assert wheel.armed(4)
    wheel.turn(start + 50 * HORIZON + TICK)
    now = start + 50 * HORIZON + TICK
    assert wheel.due() == [4], now


class Model(RuleBasedStateMachine):
    """The wheel beside a dictionary of deadlines."""

    door: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.wheel = self.door.Wheel(TIMERS, START)
        self.deadlines: dict[int, int] = {}
        self.earliest: dict[int, int] = {}  # one that is over already when it is set fires at the next tick

    @rule(number=st.integers(0, TIMERS - 1), ahead=st.one_of(st.integers(-50, 300), st.integers(0, 4 * HORIZON)))
    def set(self, number: int, ahead: int) -> None:
        self.wheel.set(number, self.now + ahead)
        self.deadlines[number] = self.now + ahead
        self.earliest[number] = max(self.now, self.now + ahead)

    @rule(number=st.integers(0, TIMERS - 1))
    def clear(self, number: int) -> None:
        self.wheel.clear(number)
        self.deadlines.pop(number, None)

    @rule(by=st.one_of(st.integers(0, 100), st.integers(0, 3 * HORIZON)))
    def turn(self, by: int) -> None:
        self.now += by
        self.wheel.turn(self.now)
        self.check(self.wheel.due())

    @rule()
    @precondition(lambda self: self.deadlines)
    def sleep(self) -> None:
        """As the loop does: as long as it may, then look."""
        wait = self.wheel.wait()
        assert 0 <= wait <= max(0, min(self.deadlines.values()) - self.now) + 2 * TICK
        self.now += wait
        self.wheel.turn(self.now)
        self.check(self.wheel.due())

    def check(self, fired: list[int]) -> None:
        assert len(fired) == len(set(fired))
        for number in fired:
            assert self.deadlines.pop(number) <= self.now
        late = {number: self.now for number in self.deadlines if self.earliest[number] + 2 * TICK <= self.now}
        assert not late

    @invariant()
    def armed(self) -> None:
        assert {number for number in range(TIMERS) if self.wheel.armed(number)} == set(self.deadlines)
        assert (self.wheel.wait() == -1) == (not self.deadlines)


def test_against_a_model(door: Any) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Model.door = door
    run_state_machine_as_test(Model, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_the_clock(door: Any) -> None:
    before = time.monotonic_ns() // 1000
    now = door.clock_us()
    assert before <= now <= time.monotonic_ns() // 1000 + 1
    assert now // 1000 <= door.updated_clock() <= now // 1000 + 1000
