"""The report on a terminal and in a pipe: figures, ratios, limits, and what the reader has to know."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nlbbench import table
from nlbbench.figures import Figures
from nlbbench.results import Report
from nlbbench.trials import TRIALS
from tests.bench.made_up import report, sample


def shown(made: Report, **options: object) -> str:
    out = io.StringIO()
    table.show(Console(file=out, width=220, **options), Figures(made))  # type: ignore[arg-type]
    return out.getvalue()


def test_everything_is_in_it() -> None:
    text = shown(report())
    assert "nlb bench compare: 1 worker each, 3 repetitions, interleaved, 1 min 40 s" in text
    assert "A processor <fast>, 2 cores, virtual, 8 GB; Debian, Linux 6.1; load 0.25 at the start" in text
    assert all(trial.title in text for trial in TRIALS.values())
    assert "550 µs (500-1,500) 0.50x, 0.79x of limit" in text
    assert "limit" in text
    assert "nginx: left out: nginx is not installed" in text
    assert "stunnel: left out of kill: cannot <do> that" in text
    assert "x = ratio to haproxy, within each repetition; of limit = multiple of OpenSSL in memory" in text


def test_better_is_green_and_worse_is_red() -> None:
    text = shown(report(), force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b[32m 0.50x" in text
    assert "\x1b[31m 2.00x" in text
    assert "\x1b[32m 2.00x" in text  # a rate: more is better


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"out_of_time": True}, "The time was over before all repetitions were made"),
        ({"interrupted": True}, "Ended early: what was measured until then is complete."),
        (
            {"samples": (sample(TRIALS["full"], "nlb", 0, failed={"corrupt": 3}, failures=("corrupt: at 7",)),)},
            "nlb, full handshakes: 3 failed of 1003 exchanges (3 corrupt): corrupt: at 7",
        ),
        (
            {"samples": (sample(TRIALS["full"], "nlb", 0, limited="no time", busy=0.5),)},
            "Rates marked with ≥ are at least that: those proxies had time left (busy for 50% to 50% of it); no time.",
        ),
    ],
    ids=["out of time", "interrupted", "failures", "the clients' limit"],
)
def test_what_the_reader_must_know(changes: dict[str, Any], line: str) -> None:
    text = shown(report(**changes))
    assert line in text
    assert line not in shown(report())


def test_failures_of_an_event_are_its_figure_and_no_remark() -> None:
    text = shown(report(samples=(sample(TRIALS["kill"], "nlb", 0, failed={"reset": 3}),)))
    assert "3 failed of" not in text
