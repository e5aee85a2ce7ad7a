"""Proxies have processors of their own, as far as there are enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlbbench.apart import Apart, kept_to
from nlbbench.guard import Guarded


@pytest.mark.parametrize(
    ("processors", "workers", "others", "own", "of_more"),
    [
        ((0, 1), 1, (0,), (1,), (0, 1)),
        ((0, 1), 2, (0, 1), (0, 1), (0, 1)),
        ((3,), 1, (3,), (3,), (3,)),
        ((0, 2, 4, 6), 1, (0, 2, 4), (6,), (4, 6)),
        ((0, 2, 4, 6), 3, (0,), (2, 4, 6), (0, 2, 4, 6)),
        ((0, 1), 9, (0, 1), (0, 1), (0, 1)),
    ],
)
def test_shares(
    processors: tuple[int, ...],
    workers: int,
    others: tuple[int, ...],
    own: tuple[int, ...],
    of_more: tuple[int, ...],
) -> None:
    apart = Apart(workers, processors)
    assert apart.others == others
    assert apart.own(workers) == own
    assert apart.own(workers + 1) == of_more


def test_this_process_keeps_to_the_others() -> None:
    before = os.sched_getaffinity(0)
    apart = Apart(1)
    with kept_to(apart.others):
        assert os.sched_getaffinity(0) == set(apart.others)
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(*sorted(os.sched_getaffinity(0)))"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert child.stdout.split() == [str(one) for one in apart.others]
    assert os.sched_getaffinity(0) == before


def test_a_proxy_runs_where_it_is_to(tmp_path: Path) -> None:
    (first, *_) = sorted(os.sched_getaffinity(0))
    with Guarded(["sleep", "1000"], tmp_path / "log", processors=(first,)) as running:
        assert os.sched_getaffinity(running.pid) == {first}
