"""The limit of connections a second: a second's worth at once, then one by one, over all workers."""

from __future__ import annotations

from typing import Any

import pytest

SECOND = 1_000_000


@pytest.mark.parametrize("cps", [1, 2, 3, 7, 100])
def test_a_second_s_worth_comes_at_once(door: Any, cps: int) -> None:
    assert door.Limit(cps).admit(cps + 5) == cps


def test_it_is_one_limit_for_all_workers(door: Any) -> None:
    """Whoever asks for the same row of the segment."""
    here, there = door.Limit(10), door.Limit(10)
    assert here.admit(6) == 6
    assert there.admit(10) == 4
    assert here.admit(1) == 0
    there.let_pass(SECOND)
    assert here.admit(10) == 10


def test_no_limit(door: Any) -> None:
    assert door.Limit(0).admit(10_000) == 10_000


@pytest.mark.parametrize("cps", [1, 10, 100])
def test_it_comes_back_evenly(door: Any, cps: int) -> None:
    limit = door.Limit(cps)
    assert limit.admit(cps + 1) == cps
    for _ in range(20):
        limit.let_pass(SECOND // cps)
        assert limit.admit(3) in (1, 2), "2: the clock goes on while the test runs"
    limit.let_pass(SECOND)
    assert cps <= limit.admit(2 * cps + 2) <= cps + 1


def test_silence_earns_no_more_than_a_second(door: Any) -> None:
    limit = door.Limit(10)
    limit.admit(10)
    limit.let_pass(SECOND)
    assert limit.admit(100) in (10, 11)


@pytest.mark.parametrize("cps", [70_000, 300_001, 500_001, 1_000_000])
def test_high_limits_are_kept_within_a_hundredth(door: Any, cps: int) -> None:
    """`cps` may be up to a million; what comes meanwhile is counted by the clock."""
    before = door.clock_us()
    admitted = door.Limit(cps).admit(1_500_000)
    seconds = 1 + (door.clock_us() - before) / SECOND
    assert cps <= admitted <= 1 + cps * seconds * 1.01
