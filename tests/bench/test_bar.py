"""The progress bar says what is measured and how long it will take, on a terminal and nowhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nlbbench import bar
from nlbbench.compare import Now, Step
from nlbbench.proxies import KINDS
from nlbbench.stage import Candidate
from nlbbench.trials import TRIALS

STEP = Step(1, TRIALS["storm"], Candidate("haproxy", KINDS["haproxy"]), 2.0)


@pytest.mark.parametrize(
    ("step", "text"),
    [(STEP, "2: storm, haproxy"), (Step(0, None, None, 1.0), "1: OpenSSL in memory"), (None, "stopping")],
)
def test_label(step: Step | None, text: str) -> None:
    assert bar.label(Now(step, 0.5, 10.0)) == text


def test_on_a_terminal() -> None:
    out = io.StringIO()
    with bar.shown(Console(file=out, force_terminal=True, width=100)) as watch:
        watch(Now(STEP, 0.5, 70.0))
    assert "2: storm, haproxy" in out.getvalue()
    assert "50 %" in out.getvalue()
    assert "1 min 10 s left" in out.getvalue()


def test_in_a_pipe() -> None:
    out = io.StringIO()
    with bar.shown(Console(file=out, width=100)) as watch:
        watch(Now(STEP, 0.5, 70.0))
    assert out.getvalue().strip() == ""
