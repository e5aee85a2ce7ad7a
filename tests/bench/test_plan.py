"""The schedule is honest: what a stalled server makes late is late in the figures, though nobody waited in line for it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from nlbbench.backends import serve
from nlbbench.histogram import Latency
from nlbbench.load import run
from nlbbench.spec import Backend, Load, Mark, Outcome, Population, Target, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbbench.backends import Server

STALL = 0.6


@pytest.fixture
def echo() -> Iterator[Server]:
    with serve(Backend.ECHO) as server:
        yield server


def stalled(echo: Server, rate: float | None) -> Outcome:
    """A run in the middle of which the server does nothing for STALL seconds."""

    def stall() -> None:
        os.kill(echo.pids[0], signal.SIGSTOP)
        time.sleep(STALL)
        os.kill(echo.pids[0], signal.SIGCONT)

    population = Population("one", Work.ECHO, connections=4, rate=rate)
    load = Load(Target(echo.address, tls=False), (population,), duration=1.2, warmup=0.1, marks=(Mark(0.3, "stall"),))
    outcome = run(load, hooks={"stall": stall})
    assert outcome.failures == 0
    assert outcome.marks[0].took == pytest.approx(STALL, abs=0.5)
    return outcome


def test_open_model(echo: Server) -> None:
    found = stalled(echo, 200.0).populations[0]
    assert found.done == found.planned == 240
    # 120 arrivals were planned in the stall; those of its first half had to wait for more than half of it. Only the four
    # that were on their way were slow by the clock that starts when a request is sent.
    assert Latency.read(found.latency).beyond(STALL / 2) >= 50
    assert 1 <= Latency.read(found.service).beyond(STALL / 2) <= 8
    assert Latency.read(found.latency).longest >= STALL * 0.9


def test_closed_model_hides_it(echo: Server) -> None:
    """Which is why the open one is there."""
    found = stalled(echo, None).populations[0]
    assert 1 <= Latency.read(found.latency).beyond(STALL / 2) <= 4
    assert found.latency == found.service


def test_what_cannot_be_done_in_time_is_counted(echo: Server) -> None:
    """The server is gone for good in the middle: every arrival of the schedule is there, done or failed."""
    population = Population("one", Work.ECHO, connections=2, rate=100.0)
    load = Load(
        Target(echo.address, tls=False),
        (population,),
        duration=0.6,
        warmup=0.0,
        timeout=30.0,
        grace=0.2,
        marks=(Mark(0.3, "stop"),),
    )
    try:
        found = run(load, hooks={"stop": lambda: os.kill(echo.pids[0], signal.SIGSTOP)}).populations[0]
    finally:
        os.kill(echo.pids[0], signal.SIGCONT)
    assert found.planned == 60
    assert found.done + found.failures == 60
    assert 10 <= found.failures <= 45
    assert set(found.failed) == {"unfinished"}
