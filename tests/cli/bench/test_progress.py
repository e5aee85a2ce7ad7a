"""How much time is left, and when nothing is drawn."""

from __future__ import annotations

from nlbbench.spec import Load, Population, Progress, Target, Work
from nlbcli.bench._progress import left, shown

LOAD = Load(Target("127.0.0.1:1"), (Population("one", Work.ECHO),), duration=10.0)
COUNT = Load(Target("127.0.0.1:1"), (Population("one", Work.ECHO, count=100),), duration=None)


def test_time_left() -> None:
    assert left(LOAD, Progress("measuring", 4.0, 0.4, 10, 0)) == "6 s left"
    assert left(LOAD, Progress("finishing", 10.1, 1.0, 10, 0)) == "0 s left"
    assert left(COUNT, Progress("measuring", 2.0, 0.25, 25, 0)) == "6 s left"
    assert left(COUNT, Progress("opening", 0.0, 0.0, 0, 0)) == ""


def test_nothing_is_drawn_where_nobody_looks() -> None:
    with shown(LOAD) as progress:  # pytest's stderr is no terminal
        assert progress is None
