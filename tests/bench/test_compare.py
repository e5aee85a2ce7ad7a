"""A comparison: the order, the time left, who is left out and why; and that what was measured is kept."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nlbbench import compare, measure
from nlbbench.compare import Comparison, Now, Wish
from nlbbench.proxies import kind_of
from nlbbench.results import RELAY, Report
from nlbbench.stage import Candidate
from nlbbench.trials import FULL, QUICK, TRIALS, Length, Size, Trial, chosen
from nlbcore.errors import NlbError
from tests.support.programs import need

NLB = Path(sys.executable).parent / "nlb"
SIZE = replace(QUICK, repetitions=2, relays=1, floor=0.1)


def short(*names: str) -> tuple[Trial, ...]:
    return tuple(replace(TRIALS[name], length=Length(0.2, 0.2)) for name in names)


def candidates(**more: Path) -> tuple[Candidate, ...]:
    return tuple(compare.choose(["nlb"], {"nlb-b": NLB, **more}, {})[0])


def test_who_is_chosen() -> None:
    chosen, missing = compare.choose(
        ["nlb", "haproxy-9"],
        {"haproxy-9": Path("/no/haproxy"), "nlb-b": NLB},
        {"mine": ("127.0.0.1:1", 7)},
        {"nlb-b": 2},
    )
    assert [(one.name, one.binary or one.address, one.pid, one.workers) for one in chosen] == [
        ("nlb", NLB, None, 0),
        ("nlb-b", NLB, None, 2),
        ("mine", "127.0.0.1:1", 7, 0),
    ]
    assert [(one.name, one.why) for one in missing] == [("haproxy-9", "/no/haproxy is not installed")]
    with pytest.raises(NlbError, match="envoy: no proxy that is known here"):
        compare.choose(["envoy"], {}, {})


def test_the_order() -> None:
    wish = Wish(candidates(), short("full", "idle", "kill"), replace(QUICK, repetitions=3))
    plan = [
        (one.repetition, one.trial.name if one.trial else "floor", one.candidate.name if one.candidate else "")
        for one in compare.steps(wish)
    ]
    assert plan[:8] == [
        (0, "floor", ""),
        (0, "full", "nlb"),
        (0, "full", "nlb-b"),
        (0, "full", RELAY),
        (0, "idle", "nlb"),
        (0, "idle", "nlb-b"),
        (0, "kill", "nlb"),
        (0, "kill", "nlb-b"),
    ]
    # The next repetition begins with the next peer; idle, events and here the relay are not repeated.
    assert plan[8:11] == [(1, "floor", ""), (1, "full", "nlb-b"), (1, "full", "nlb")]
    assert plan[11:] == [(2, "floor", ""), (2, "full", "nlb"), (2, "full", "nlb-b")]
    alone = list(compare.steps(replace(wish, floor=False)))
    assert all(one.candidate is not None and one.candidate.name != RELAY for one in alone)


@pytest.mark.parametrize(("size", "peers", "minutes"), [(QUICK, 4, 3.0), (FULL, 5, 12.0)], ids=["quick", "full"])
def test_the_plan_is_as_long_as_promised(size: Size, peers: int, minutes: float) -> None:
    some = tuple(Candidate(f"nlb-{number}", kind_of("nlb"), NLB) for number in range(peers))
    total = sum(one.seconds for one in compare.steps(Wish(some, tuple(chosen([], size)), size)))
    assert minutes * 60 / 2 < total < minutes * 60


@pytest.fixture(scope="module")
def seen() -> list[Now]:
    return []


@pytest.fixture(scope="module")
def report(module_folder: Path, seen: list[Now]) -> Report:
    """Two good ones, one that is not what it is called, and one that does not start."""
    broken = module_folder / "haproxy"
    broken.write_text("#!/bin/sh\necho HAProxy version 9.9\n[ $1 = -vv ] || { echo no licence; exit 1; }\n")
    broken.chmod(0o755)
    some = candidates(**{"nginx-x": Path(need("openssl")), "haproxy-x": broken})
    return Comparison(Wish(some, short("single"), SIZE, reference="nlb"), (), seen.append).run()


def test_everything_is_measured(report: Report) -> None:
    made = Counter((one.trial, one.peer) for one in report.samples)
    assert made == {("single", "nlb"): 2, ("single", "nlb-b"): 2, ("single", RELAY): 1}
    assert [one.repetition for one in report.samples] == sorted(one.repetition for one in report.samples)
    assert len(report.floors) == 2
    assert all(not one.failed and one.exchanges for one in report.samples)
    assert [one.name for one in report.contestants] == ["nlb", "nlb-b", "haproxy-x"]
    assert (report.size, report.reference, report.interrupted) == ("quick", "nlb", False)


def test_who_is_left_out_and_why(report: Report) -> None:
    found = {(one.name, one.trial): one.why for one in report.left_out}
    assert set(found) == {("nginx-x", ""), ("haproxy-x", "")}
    assert "openssl is no nginx" in found["nginx-x", ""]
    assert "has ended at its start: " in found["haproxy-x", ""]
    assert "no licence" in found["haproxy-x", ""]


def test_the_time_left_goes_down(report: Report, seen: list[Now]) -> None:
    assert report.samples
    assert [one.share for one in seen] == sorted(one.share for one in seen)
    assert seen[0].share == 0.0
    assert (seen[-1].step, seen[-1].share) == (None, 1.0)
    assert seen[0].left > seen[-1].left
    steps = {(one.step.trial, one.step.candidate) for one in seen if one.step}
    assert (None, None) in steps


def test_the_first_repetition_is_made_even_when_time_is_over() -> None:
    wish = Wish(candidates()[:1], short("single"), replace(SIZE, budget=0.0), floor=False)
    found = Comparison(wish).run()
    assert [one.repetition for one in found.samples] == [0]
    assert (found.out_of_time, found.interrupted) == (True, False)


@pytest.mark.parametrize("where", ["in a load", "between"])
def test_ctrl_c_keeps_what_was_measured(where: str) -> None:
    before = psutil.Process().children(recursive=True)

    def watch(now: Now) -> None:
        if now.step is not None and now.step.repetition == 1 and (where == "between" or now.share > 0.55):
            signal.raise_signal(signal.SIGINT)

    wish = Wish(candidates()[:1], short("full"), SIZE, floor=False)
    found = Comparison(wish, (), watch).run()
    assert found.interrupted
    assert found.left_out == ()
    assert [one.repetition for one in found.samples] == [0]
    assert psutil.Process().children(recursive=True) == before


def test_what_goes_wrong_ends_what_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children(recursive=True)

    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(measure.Bench, "sample", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        Comparison(Wish(candidates()[:1], short("full"), SIZE, floor=False, certificates=tmp_path)).run()
    assert psutil.Process().children(recursive=True) == before
    assert (tmp_path / "client.crt").exists()
