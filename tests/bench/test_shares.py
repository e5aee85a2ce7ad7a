"""Nothing is lost or doubled when a load is shared by processes, and their schedules interleave."""

from __future__ import annotations

import itertools

import pytest

from nlbbench.shares import plan, share
from nlbbench.spec import Population, Work


@pytest.mark.parametrize(("total", "processes"), [(1, 1), (7, 2), (100, 3), (3, 4)])
def test_shares_add_up(total: int, processes: int) -> None:
    parts = [share(total, processes, number) for number in range(processes)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_schedules_interleave() -> None:
    plans = [plan(Population("one", Work.ECHO, connections=4, rate=1000.0), 4, number) for number in range(4)]
    moments = sorted(one["offset"] + number * one["period"] for one in plans for number in range(5))
    assert [later - earlier for earlier, later in itertools.pairwise(moments)] == [1e6] * 19


def test_a_schedule_has_one_piece_at_a_time() -> None:
    assert plan(Population("one", Work.DOWNLOAD), 1, 0)["depth"] == 2
    assert plan(Population("one", Work.DOWNLOAD, rate=1.0), 1, 0)["depth"] == 1
