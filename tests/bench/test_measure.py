"""One sample of each course: what the proxy used, what the exchanges came to, and what happened in the middle."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nlbbench import measure
from nlbbench.material import provide
from nlbbench.measure import Bench
from nlbbench.proxies import KINDS
from nlbbench.spec import Backend
from nlbbench.stage import Candidate, Stage
from nlbbench.trials import QUICK, TRIALS, Length, Trial
from nlbcore.errors import NlbError
from tests.support.programs import need

NLB = Candidate("nlb", KINDS["nlb"], Path(sys.executable).parent / "nlb")
SIZE = replace(QUICK, idle=(20, 60), bursts=True, settle=0.1)


def short(name: str, seconds: float = 0.4) -> Trial:
    return replace(TRIALS[name], length=Length(seconds, seconds))


@pytest.fixture(scope="module")
def stage(module_folder: Path) -> Iterator[Stage]:
    with Stage(module_folder, provide(module_folder / "certificates"), 1, {}) as stage:
        stage.standing(NLB, Backend.ECHO)
        yield stage


@pytest.fixture
def bench(stage: Stage) -> Bench:
    return Bench(stage, SIZE, lambda _share: None)


def test_handshakes(bench: Bench) -> None:
    found = bench.sample(short("full"), NLB, 3)
    assert (found.trial, found.peer, found.repetition) == ("full", "nlb", 3)
    assert set(found.values) == {"cpu", "rate", "p50", "p99"}
    assert 50e-6 < found.values["cpu"] < 20e-3
    assert found.values["p50"] <= found.values["p99"]
    assert found.failed == {}
    assert found.exchanges > 5
    assert found.busy is not None
    # CPU time, rate and share are of one measurement.
    assert found.values["cpu"] * found.values["rate"] == pytest.approx(found.busy)
    assert bool(found.limited) == (found.busy < measure.SATURATED)


def test_memory_is_a_slope(bench: Bench) -> None:
    found = bench.sample(TRIALS["idle"], NLB, 0)
    assert set(found.values) == {"connection", "burst", "base"}
    assert 10e3 < found.values["connection"] < 300e3
    assert found.values["base"] > 5e6
    assert found.busy is None


def test_a_reload_costs_nothing_and_brings_the_new_certificate(bench: Bench) -> None:
    found = bench.sample(short("reload", 1.0), NLB, 0)
    assert (found.failed, found.values["failed"]) == ({}, 0.0)
    assert found.exchanges > 100


def test_a_killed_worker_costs_what_it_held(bench: Bench) -> None:
    found = bench.sample(short("kill", 1.0), NLB, 0)
    assert 0 < found.values["failed"] == sum(found.failed.values())
    assert found.failures
    assert found.exchanges > 5 * found.values["failed"]


def test_a_lost_server_costs_what_it_held(bench: Bench) -> None:
    found = bench.sample(short("loss", 1.0), NLB, 0)
    assert 0 < found.values["failed"] < 100
    assert found.exchanges > 100


def test_one_that_cannot_lose_a_worker(bench: Bench) -> None:
    haproxy = Candidate("haproxy", KINDS["haproxy"], Path(need("haproxy")))
    with pytest.raises(NlbError, match="its workers are threads of one process"):
        bench.sample(short("kill"), haproxy, 0)


def test_a_running_one_has_no_memory_and_no_events_of_ours(bench: Bench, stage: Stage) -> None:
    mine = Candidate("mine", address=stage.standing(NLB, Backend.ECHO).address)
    found = bench.sample(short("single"), mine, 0)
    assert found.busy is None
    assert set(found.values) == {"p50", "p99"}
    for name, why in (("idle", "--pid"), ("reload", "was not started here"), ("loss", "an echo behind it")):
        with pytest.raises(NlbError, match=why):
            bench.sample(short(name), mine, 0)


def test_ctrl_c_ends_a_sample(stage: Stage) -> None:
    told: list[float] = []

    def interrupt(share: float) -> None:
        if share > 0.1 and not told:
            told.append(share)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(measure.Interrupted):
        Bench(stage, SIZE, interrupt).sample(short("echo", 5.0), NLB, 0)
    assert told
