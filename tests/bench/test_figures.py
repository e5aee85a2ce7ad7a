"""Medians, spread, ratios within a repetition, multiples of the limit; and what failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nlbbench.figures import Figure, Figures, lowest_floor
from nlbbench.results import RELAY
from nlbbench.trials import TRIALS
from tests.bench.made_up import DRIFT, FLOOR, report, sample

FULL, IDLE, KILL = TRIALS["full"], TRIALS["idle"], TRIALS["kill"]


def figure(figures: Figures, peer: str, metric: str = "cpu") -> Figure:
    found = figures.figure(FULL, FULL.metric(metric), peer)
    assert found is not None
    return found


def test_median_and_spread() -> None:
    found = figure(Figures(report()), "nlb")
    assert found.median == pytest.approx(0.5e-3 * 1.1)
    assert found.low == pytest.approx(0.5e-3)
    assert found.high == pytest.approx(1.5e-3)
    assert found.count == len(DRIFT)


def test_a_slow_repetition_is_in_both_and_not_in_the_ratio() -> None:
    figures = Figures(report())
    assert figure(figures, "nlb").ratio == pytest.approx(0.5)
    assert figure(figures, "nlb", "rate").ratio == pytest.approx(2.0)
    assert figure(figures, "haproxy").ratio is None


def test_what_not_all_repetitions_say_is_not_sure() -> None:
    made = report()
    assert figure(Figures(made), "nlb").sure
    slow = tuple(
        replace(one, values={name: 4 * value for name, value in one.values.items()})
        if (one.peer, one.repetition) == ("nlb", 1)
        else one
        for one in made.samples
    )
    found = figure(Figures(report(samples=slow)), "nlb")
    assert found.ratio == pytest.approx(0.5)
    assert not found.sure


def test_a_ratio_needs_the_reference_in_the_same_repetition() -> None:
    made = report()
    without = tuple(one for one in made.samples if not (one.peer == "haproxy" and one.repetition != 1))
    figures = Figures(report(samples=without))
    assert figure(figures, "nlb").ratio == pytest.approx(0.5)
    nobody = Figures(report(reference="envoy"))
    assert figure(nobody, "nlb").ratio is None


def test_the_multiple_of_the_limit() -> None:
    figures = Figures(report())
    bottom = FLOOR.full_without_tickets + 0.2e-3 * min(DRIFT)
    assert figures.limit(FULL, FULL.metrics[0]) == pytest.approx(bottom)
    assert figure(figures, "nlb").multiple == pytest.approx(0.55e-3 / bottom)
    assert figure(figures, "nlb", "rate").multiple is None
    assert figure(Figures(report(floors=())), "nlb").multiple is None


def test_what_was_not_measured_has_no_figure() -> None:
    figures = Figures(report(samples=(sample(FULL, "nlb", 0),)))
    assert figures.trials() == [FULL]
    assert figures.figure(FULL, FULL.metrics[0], "stunnel") is None
    assert figures.failures(FULL, "stunnel") is None
    assert figures.repetitions() == 1
    empty = Figures(report(samples=()))
    assert (empty.trials(), empty.repetitions()) == ([], 0)


def test_a_trial_of_the_relay_alone_is_not_shown() -> None:
    assert Figures(report(samples=(sample(FULL, RELAY, 0),))).trials() == []


def test_failures_add_up() -> None:
    broken = [sample(FULL, "nlb", one, failed={"reset": 2, "timeout": 1}, failures=("reset: gone",)) for one in (0, 1)]
    killed = sample(KILL, "nlb", 0, failed={"reset": 9})
    figures = Figures(report(samples=(*broken, killed)))
    found = figures.failures(FULL, "nlb")
    assert found is not None
    assert (found.total, found.failed, found.exchanges) == (6, {"reset": 4, "timeout": 2}, 2000)
    assert found.examples == ("reset: gone",)
    assert figures.unexpected() == 6


def test_a_rate_that_is_the_clients() -> None:
    why = "a process of the generator was busy for 99% of the time"
    limited = [sample(FULL, "nlb", number, limited=why, busy=0.3) for number in (0, 1)]
    figures = Figures(report(samples=(*limited, sample(FULL, "nlb", 2))))
    assert figure(figures, "nlb", "rate").limited
    assert not figure(figures, "nlb").limited
    assert figures.limited() == f"those proxies had time left (busy for 30% to 30% of it); {why}"
    assert Figures(report()).limited() == ""


def test_the_lowest_floor_is_part_by_part() -> None:
    other = replace(FLOOR, full=9.0, idle=1.0)
    found = lowest_floor([FLOOR, other, FLOOR])
    assert found == replace(FLOOR, idle=1.0)
    assert lowest_floor([]) is None
