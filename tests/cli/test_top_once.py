"""One frame as text: the rates of two answers, trouble first, and nothing that is empty."""

from __future__ import annotations

import datetime as dt
import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from nlbcli._top_once import once, show
from nlbcli._top_rates import Sample, frame
from nlbcore.errors import NotRunningError
from tests.support.status import later, status
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 1, 2, 3, 4, 47, tzinfo=dt.UTC)


def test_rates_of_two_answers(tmp_path: Path) -> None:
    path = tmp_path / "nlb.sock"
    answers = [status(), later(status(), new=1000)]
    out = io.StringIO()
    with Loop(path, lambda verb, arguments: answers.pop(0)) as loop:
        once(path, 0.1, Console(file=out, width=9999))
    assert loop.seen == [("status", {}), ("status", {})]
    new = next(line.split()[6] for line in out.getvalue().splitlines() if line.startswith(" web"))
    assert 3000 < int(new.replace(",", "")) <= 10_000, "1000 in 0.1 s or a little more"


def test_trouble_stands_first_and_what_is_empty_is_left_out() -> None:
    answer = status() | {"certificates": [], "crls": []}
    out = io.StringIO()
    show(frame(None, Sample(1.0, answer)), NOW, Console(file=out, width=9999))
    head, _, *rest = out.getvalue().splitlines()
    assert head.startswith("nlb-1  running  generation 3")
    assert rest[:2] == ["! worker 1 is down", "! the prober is silent"]
    assert [line for line in rest if line and line[0] not in " !*"] == [
        "Listeners",
        "Servers",
        "Ends of connections",
        "Workers",
    ]
    assert not any(line.endswith(" ") for line in rest)


def test_nobody(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        once(tmp_path / "nlb.sock", 0.1, Console(file=io.StringIO()))
