"""run(): hooks and marks, phases, several processes, an early end, and what is refused before anything starts."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from nlbbench.backends import serve
from nlbbench.histogram import Latency
from nlbbench.load import LoadError, check, run
from nlbbench.spec import Backend, Failure, Load, Mark, Outcome, Population, Progress, Target, Work
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbbench.backends import Server


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with serve(Backend.ECHO) as server:
        yield server


def load(echo: Server, *populations: Population, **fields: Any) -> Load:
    options: dict[str, Any] = {"duration": 0.3, "warmup": 0.05, **fields}
    return Load(Target(echo.address, tls=False), populations, **options)


ECHO = Population("echo", Work.ECHO, connections=4)
STORM = Population("storm", Work.CONNECT, connections=4, beside=True)


def test_two_populations_in_two_processes(echo: Server) -> None:
    """At a rate: those beside get what it leaves of the processors."""
    outcome = run(load(echo, replace(ECHO, rate=500.0), STORM, processes=2, interval=0.1))
    assert outcome.failures == 0
    assert not outcome.interrupted
    assert outcome.seconds == pytest.approx(0.3, abs=0.05)
    for one in outcome.populations:
        assert one.done > (2 if one.population.beside else 20)
        assert Latency.read(one.latency).count == one.done
        assert sum(entry.done for entry in one.series) <= one.done
        assert 2 <= len(one.series) <= 4
    storm = outcome.population("storm")
    assert storm.received == pytest.approx(storm.done * 16, abs=16 * 16)  # bytes are counted when they come
    assert storm.sent == pytest.approx(storm.done * 16, abs=16 * 16)
    assert outcome.population("echo").opened == 0, "they were open before"
    assert 0 < outcome.generator.cpu < 0.7
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_both_processes_do_their_share(echo: Server) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.extend(
            len(child.net_connections("tcp")) for child in psutil.Process().children() if child.pid not in echo.pids
        )

    idle = Population("idle", Work.IDLE, connections=9, burst=100_000)
    found = run(load(echo, idle, processes=2), begin=look).populations[0]
    assert sorted(seen) == [4, 5]
    assert (found.planned, found.done, found.failed) == (9, 9, {})


def test_hooks_are_called_in_their_time(echo: Server) -> None:
    calls: list[str] = []

    def broken() -> None:
        calls.append("broken")
        raise RuntimeError("no reload today")

    outcome = run(
        load(echo, ECHO, marks=(Mark(0.2, "broken"), Mark(0.1, "good"))),
        hooks={"good": lambda: calls.append("good"), "broken": broken},
        begin=lambda: calls.append("begin"),
        end=lambda: calls.append("end"),
    )
    assert calls == ["begin", "good", "broken", "end"]
    good, bad = outcome.marks
    assert good.at >= 0.1
    assert (good.error, bad.error) == ("", "RuntimeError: no reload today")
    assert outcome.failures == 0


def test_progress_goes_through_the_phases(echo: Server) -> None:
    seen: list[Progress] = []
    run(load(echo, ECHO), progress=seen.append)
    phases = [one.phase for one in seen]
    assert phases == sorted(phases, key=["opening", "warmup", "measuring", "finishing"].index)
    assert "measuring" in phases
    assert seen[-1].share == 1.0
    assert seen[-1].done > 0
    shares = [one.share or 0.0 for one in seen]
    assert shares == sorted(shares)


def test_silent_connections_are_watched(echo: Server) -> None:
    with serve(Backend.ECHO) as other:
        outcome = run(
            load(other, Population("idle", Work.IDLE, connections=5), marks=(Mark(0.05, "kill"),)),
            hooks={"kill": lambda: os.kill(other.pids[0], signal.SIGKILL)},
        )
    (found,) = outcome.populations
    assert found.done == 5
    assert found.failures == 5
    assert set(found.failed) <= {Failure.RESET, Failure.TRUNCATED}


def test_a_server_that_goes_and_comes_back(echo: Server) -> None:
    """Closed model: connections are made again, and what failed in between is counted, not hidden."""
    with serve(Backend.ECHO, processes=2) as other:
        killed = other.pids[0]
        outcome = run(
            load(other, replace(ECHO, connections=16), marks=(Mark(0.1, "kill"),), duration=0.5),
            hooks={"kill": lambda: os.kill(killed, signal.SIGKILL)},
        )
    found = outcome.populations[0]
    assert set(found.failed) <= {Failure.RESET, Failure.TRUNCATED}
    assert found.opened == found.failures, "each that was lost was opened again"


def test_interrupted(echo: Server) -> None:
    """Ctrl-C keeps what was measured."""

    def progress(now: Progress) -> None:
        if now.phase == "measuring" and now.seconds > 0.1:
            signal.raise_signal(signal.SIGINT)

    outcome = run(load(echo, ECHO, STORM, duration=30.0, processes=2), progress=progress)
    assert outcome.interrupted
    assert 0.1 <= outcome.seconds < 10
    assert outcome.population("echo").done > 0
    assert outcome.failures == 0


def test_interrupted_before_the_measurement() -> None:
    with serve(Backend.SLOW, delay=5.0) as slow:

        def progress(now: Progress) -> None:
            if now.phase == "opening":
                signal.raise_signal(signal.SIGINT)

        outcome = run(load(slow, ECHO, grace=0.1), progress=progress)
    assert outcome.interrupted
    assert outcome.seconds == 0
    assert outcome.population("echo").done == 0


def test_a_process_of_the_generator_that_dies_is_told(echo: Server) -> None:
    def kill() -> None:
        child = next(one for one in psutil.Process().children() if one.pid not in echo.pids)
        child.kill()
        wait_until(lambda: child.status() == psutil.STATUS_ZOMBIE, "it is dead")

    with pytest.raises(LoadError, match="a process of the generator has ended"):
        run(load(echo, ECHO), begin=kill)


ECHO_LOAD = Load(Target("127.0.0.1:1", tls=False), (ECHO,))
REFUSED = {
    "at least one population": replace(ECHO_LOAD, populations=()),
    "at most 16 populations": replace(ECHO_LOAD, populations=tuple(replace(ECHO, name=f"{n}") for n in range(17))),
    "two populations have one name": replace(ECHO_LOAD, populations=(ECHO, ECHO)),
    "at least one process": replace(ECHO_LOAD, processes=0),
    "duration must be more than 0": replace(ECHO_LOAD, duration=0.0),
    "cannot be negative": replace(ECHO_LOAD, warmup=-1.0),
    "it would never end": replace(ECHO_LOAD, duration=None),
    "cannot be shared by 5 processes": replace(ECHO_LOAD, processes=5),
    "rate must be more than 0": replace(ECHO_LOAD, populations=(replace(ECHO, rate=0.0),)),
    "count must be at least 1": replace(ECHO_LOAD, populations=(replace(ECHO, count=0),)),
    "size must be at least 1": replace(ECHO_LOAD, populations=(replace(ECHO, size=0),)),
    "can be resumed": replace(ECHO_LOAD, populations=(replace(ECHO, resumed=True),)),
    "only idle connections have a burst": replace(ECHO_LOAD, populations=(replace(ECHO, burst=1),)),
    "no count, and the load has no duration": replace(
        ECHO_LOAD, duration=None, populations=(ECHO, replace(ECHO, name="two", count=1))
    ),
    "neither a rate nor a count": replace(ECHO_LOAD, populations=(replace(ECHO, work=Work.IDLE, count=1),)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_run_is_refused(why: str) -> None:
    with pytest.raises(LoadError, match=why):
        check(REFUSED[why])


def test_descriptors_that_nobody_has_are_told_before() -> None:
    many = replace(ECHO, connections=2_000_000_000)
    with pytest.raises(LoadError, match=r"2000000000 connections in a process need .* raise the limit"):
        run(replace(ECHO_LOAD, populations=(many,)))


def test_a_mark_needs_its_hook() -> None:
    with pytest.raises(LoadError, match="no hook for the mark reload"):
        run(replace(ECHO_LOAD, marks=(Mark(1.0, "reload"),)))
