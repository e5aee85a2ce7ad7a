"""Latencies and rates as a person reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nlbbench.spec import Population, Work
from nlbcli.bench._table import duration, rate
from tests.bench.test_spec import outcome


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (5e-7, "500 ns"), (0.0000123, "12.3 us"), (0.00456, "4.56 ms"), (1.5, "1.5 s"), (75.0, "75 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rates() -> None:
    one = replace(outcome().populations[0], seconds=2.0, done=8, sent=2_000_000, received=4_000_000_000)
    shown = {
        work: rate(replace(one, population=Population("one", work)))
        for work in (Work.ECHO, Work.DOWNLOAD, Work.DUPLEX, Work.IDLE)
    }
    assert shown == {
        Work.ECHO: "4/s",
        Work.DOWNLOAD: "2,000 MB/s down, 1 MB/s up",
        Work.DUPLEX: "2,000 MB/s down, 1 MB/s up",
        Work.IDLE: "",
    }
    assert rate(replace(one, done=123_456)) == "61,728/s"
