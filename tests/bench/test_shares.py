"""Nothing is lost or doubled when a load is shared by processes, and their schedules interleave."""

from __future__ import annotations

import itertools

import pytest

from nlbbench.shares import plan, plans, processes, share
from nlbbench.spec import Load, Population, Target, Work


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


def test_what_is_beside_has_processes_of_its_own() -> None:
    echo = Population("echo", Work.ECHO, connections=5, rate=100.0, count=7)
    storm = Population("storm", Work.CONNECT, connections=3, beside=True)
    load = Load(Target("127.0.0.1:1"), (echo, storm), processes=2)
    assert processes(load) == 4
    parts = [plans(load, number) for number in range(4)]
    assert [[one["connections"] for one in part] for part in parts] == [[3, 0], [2, 0], [0, 2], [0, 1]]
    assert [part[0]["limit"] for part in parts] == [4, 3, 0, 0]
    assert [part[0]["period"] > 0 for part in parts] == [True, True, False, False]
    assert processes(Load(Target("127.0.0.1:1"), (echo,), processes=2)) == 2
