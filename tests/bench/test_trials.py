"""The table of what is measured is sound: every figure can be made, every limit is a part of the floor."""

from __future__ import annotations

from dataclasses import fields

import pytest

from nlbbench.floor import Floor
from nlbbench.trials import FULL, QUICK, TRIALS, Course, Metric, Trial, Unit, chosen, limit
from nlbcore.errors import NlbError
from tests.bench.made_up import FLOOR


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_a_trial_is_sound(trial: Trial) -> None:
    assert trial.what.endswith(".")
    assert len({metric.name for metric in trial.metrics}) == len(trial.metrics)
    assert all(not metric.limit or metric.limit in {field.name for field in fields(Floor)} for metric in trial.metrics)
    assert bool(trial.event) == (trial.course is Course.EVENT)
    assert trial.length.quick <= trial.length.full
    assert all(one.connections >= trial.processes for one in trial.populations)
    assert trial.metric(trial.metrics[0].name) is trial.metrics[0]
    with pytest.raises(KeyError):
        trial.metric("beauty")


def test_what_is_relayed() -> None:
    relayed = {name for name, trial in TRIALS.items() if trial.relayed}
    assert relayed == {"full", "resumed", "download", "upload", "echo", "single", "churn"}


def test_what_is_flat_out() -> None:
    flat = {name for name, trial in TRIALS.items() if trial.flat_out}
    assert flat == {"full", "resumed", "download", "upload", "echo", "single", "churn"}


def test_chosen_by_name_in_their_own_order() -> None:
    assert [one.name for one in chosen(["storm", "full"], QUICK)] == ["full", "storm"]
    assert chosen([], FULL) == list(TRIALS.values())
    assert [one.name for one in chosen(["churn"], QUICK)] == list(QUICK.without)
    assert not set(QUICK.without) & {one.name for one in chosen([], QUICK)}
    with pytest.raises(NlbError, match=r"beauty: no such scenario; there are full, resumed"):
        chosen(["full", "beauty"], QUICK)


def test_the_limit_is_openssl_and_the_relay() -> None:
    metric = TRIALS["full"].metrics[0]
    assert limit(metric, FLOOR, 0.1e-3) == pytest.approx(0.6e-3)
    assert limit(metric, FLOOR, None) is None
    assert limit(metric, None, 0.1e-3) is None
    alone = Metric("cpu", "CPU", Unit.SECONDS, limit="full", relayed=False)
    assert limit(alone, FLOOR, None) == FLOOR.full
    assert limit(Metric("rate", "rate", Unit.PER_SECOND), FLOOR, 1.0) is None
