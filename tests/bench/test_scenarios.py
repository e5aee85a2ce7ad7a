"""Every named scenario is a load that can be run, and takes other figures."""

from __future__ import annotations

import pytest

from nlbbench.load import check
from nlbbench.scenarios import SCENARIOS
from nlbbench.spec import Load, Target


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_can_be_run(name: str) -> None:
    check(Load(Target("127.0.0.1:1"), SCENARIOS[name].populations))


def test_other_figures() -> None:
    first, beside = SCENARIOS["storm"].with_(connections=3, rate=7.0, size=9, storm=2)
    assert (first.connections, first.rate, first.size, first.beside) == (3, 7.0, 9, False)
    assert (beside.connections, beside.beside) == (2, True)
    assert SCENARIOS["echo"].with_() == SCENARIOS["echo"].populations
