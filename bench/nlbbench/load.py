"""run(load) -> Outcome: start the generator's processes, steer them by the board, call the hooks, add up.

The processes are started with exec, not forked: the caller may have threads (a test's servers, a progress bar), and they
must not share its heap. Each gets the board's descriptor and, on its stdin, what to do. They obey the board alone: Ctrl-C
is the caller's, and ends the measurement as its time would; a caller that is gone takes them with it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nlbbench import client
from nlbbench.board import Board
from nlbbench.client import LoadError
from nlbbench.histogram import Latency
from nlbbench.outcome import Bill, failed, samples
from nlbbench.process import order
from nlbbench.shares import beside, plans, processes
from nlbbench.spec import (
    Generator,
    Interval,
    Load,
    Mark,
    MarkOutcome,
    Outcome,
    Population,
    PopulationOutcome,
    Progress,
    Work,
)

__all__ = ["LoadError", "check", "run"]

LOOK = 0.02
"""Seconds between looks at the board."""
HEAD_START = 20_000_000
"""ns between the order to begin and the beginning, so that no process hears of it too late."""
LATE = 0.002
"""Open model: a schedule that is looked at later than this (99th percentile, seconds) is no schedule."""
BUSY = 0.95
"""A process that was on a CPU for so much of the measurement may have been the limit."""
MAX_POPULATIONS = 16
Hook = Callable[[], object]


def nothing() -> None:
    """The hook that does nothing."""


def check(load: Load) -> None:
    """Look at what can be wrong before anything is started.

    Raises:
        LoadError: with a sentence for the person who asked
    """
    if not load.populations:
        raise LoadError("a load needs at least one population")
    if len(load.populations) > MAX_POPULATIONS:
        raise LoadError(f"at most {MAX_POPULATIONS} populations, not {len(load.populations)}")
    names = [one.name for one in load.populations]
    if len(set(names)) < len(names):
        raise LoadError("two populations have one name")
    if load.processes < 1:
        raise LoadError("the generator needs at least one process")
    if load.duration is not None and load.duration <= 0:
        raise LoadError("the duration must be more than 0 seconds")
    if min(load.warmup, load.grace) < 0 or load.timeout <= 0 or load.interval <= 0:
        raise LoadError("warm-up and grace cannot be negative; timeout and interval must be more than 0 seconds")
    if load.duration is None and not any(_awaited(one) for one in load.populations):
        raise LoadError("neither a duration nor a count: it would never end")
    for one in load.populations:
        _check_population(one, load)


def _awaited(one: Population) -> bool:
    return not one.beside and one.count is not None


def _check_population(one: Population, load: Load) -> None:
    if one.connections < load.processes:
        raise LoadError(
            f"{one.name}: {one.connections} connections cannot be shared by {load.processes} processes: "
            "fewer of these (-p), or more connections (-n)"
        )
    if one.rate is not None and one.rate <= 0:
        raise LoadError(f"{one.name}: the rate must be more than 0; leave it out for as fast as possible")
    if one.count is not None and one.count < 1:
        raise LoadError(f"{one.name}: the count must be at least 1")
    if one.message < 1:
        raise LoadError(f"{one.name}: the size must be at least 1 byte")
    if one.resumed and (one.work is not Work.CONNECT or not load.target.tls):
        raise LoadError(f"{one.name}: only handshakes (work connect, with TLS) can be resumed")
    if one.burst and one.work is not Work.IDLE:
        raise LoadError(f"{one.name}: only idle connections have a burst (--burst)")
    if load.duration is None and not one.beside and one.count is None:
        raise LoadError(f"{one.name}: no count, and the load has no duration")
    if one.work is Work.IDLE and (one.count is not None or one.rate is not None):
        raise LoadError(f"{one.name}: idle connections have neither a rate nor a count (--rate, --count)")


@dataclass
class _Run:
    """A run in progress."""

    load: Load
    board: Board
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    series: list[list[Interval]] = field(default_factory=list)
    seen: list[dict[str, int]] = field(default_factory=list)
    marks: list[MarkOutcome] = field(default_factory=list)
    begun: int = 0
    ended: int = 0
    interrupted: bool = False

    def places(self, what: str) -> list[int]:
        """What every process says about itself."""
        return [self.board.place(number)[what] for number in range(self.board.processes)]

    def alive(self) -> None:
        """Raises LoadError when a process of the generator has ended before its time."""
        for number, one in enumerate(self.processes):
            if one.poll() is not None and not self.board.place(number)["over"]:
                assert one.stderr is not None
                said = one.stderr.read().decode(errors="replace").strip().splitlines()
                raise LoadError(f"a process of the generator has ended ({one.returncode}): {said[-1] if said else ''}")

    def progress(self, phase: str) -> Progress:
        """Where we are."""
        now = time.monotonic_ns()
        counts = [self.board.counts(number) for number in range(len(self.load.populations))]
        measured = (min(now, self.ended or now) - self.begun) / 1e9 if self.begun and now > self.begun else 0.0
        share: float | None = None
        if self.load.duration is not None:
            share = min(1.0, measured / self.load.duration)
        else:
            wanted = sum(one.count or 0 for one in self.load.populations if _awaited(one))
            made = sum(counts[number]["planned"] for number, one in enumerate(self.load.populations) if _awaited(one))
            share = min(1.0, made / wanted)
        return Progress(
            phase,
            measured,
            share,
            sum(one["all_done"] for one in counts),
            sum(one["all_failed"] for one in counts),
        )


def run(
    load: Load,
    *,
    hooks: Mapping[str, Hook] | None = None,
    begin: Hook = nothing,
    end: Hook = nothing,
    progress: Callable[[Progress], object] | None = None,
) -> Outcome:
    """Make a load, and say what came out. Failed exchanges are in the outcome, they raise nothing.

    Args:
        load: what to run.
        hooks: what to call at the load's marks, by name. A hook runs in this process, beside the load; what it raises is in
            the outcome.
        begin: called when the measurement begins; all connections that stay open are open then.
        end: called when it ends, before they are closed. Take CPU times and memory in these two.
        progress: called several times a second.

    A KeyboardInterrupt ends the measurement early, and the outcome says so; a second one is raised.

    Raises:
        LoadError: the load cannot be made: a file, an option, the address, the descriptors
    """
    check(load)
    if unknown := {mark.name for mark in load.marks} - set(hooks or {}):
        raise LoadError(f"no hook for the mark {', '.join(sorted(unknown))}")
    number_of = processes(load)
    parts = [plans(load, number) for number in range(number_of)]
    client.descriptors_for(max(sum(each["connections"] for each in part) for part in parts))
    address = client.resolve(load.target.address)
    if load.target.tls:
        client.context(load.target, address)  # its errors are ours to tell
    descriptor = os.memfd_create("nlbbench-board")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        one = _Run(load, Board(descriptor, number_of, len(load.populations), create=True))
        stack.callback(_stop, one)
        for number in range(number_of):
            what = order(load, address, parts[number], number_of, low=beside(load, number))
            one.processes.append(_start(what, descriptor, number))
        bill = Bill([process.pid for process in one.processes])
        try:
            _phases(one, dict(hooks or {}), begin, progress or (lambda _: None), bill)
        except KeyboardInterrupt:
            one.interrupted = True
        _finish(one, end, progress or (lambda _: None), bill)
        return _outcome(one, bill)


def _start(what: str, descriptor: int, number: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "nlbbench.process", str(descriptor), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(descriptor,),
        process_group=0,  # the terminal's Ctrl-C is not for them
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is gone already: alive() will say why
        process.stdin.write(what.encode())
        process.stdin.close()
    return process


def _stop(one: _Run) -> None:
    for process in one.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _await(one: _Run, phase: str, condition: Callable[[], bool], progress: Callable[[Progress], object]) -> None:
    while not condition():
        one.alive()
        progress(one.progress(phase))
        time.sleep(LOOK)


def _phases(one: _Run, hooks: dict[str, Hook], begin: Hook, progress: Callable[[Progress], object], bill: Bill) -> None:
    """Opening, warm-up, measurement."""
    load = one.load
    _await(one, "opening", lambda: all(one.places("ready")), progress)
    schedule = time.monotonic_ns() + HEAD_START
    begun = schedule + int(load.warmup * 1e9)
    if load.warmup:
        one.board.steer(schedule=schedule)
        _await(one, "warmup", lambda: time.monotonic_ns() >= begun - HEAD_START, progress)
    begin()
    bill.begin()
    one.begun = max(time.monotonic_ns() + (0 if load.warmup else HEAD_START), begun)
    ended = one.begun + int(load.duration * 1e9) if load.duration is not None else 0
    one.board.steer(begin=one.begun, end=ended, schedule=None if load.warmup else one.begun)
    one.ended = ended
    one.seen = [one.board.counts(number) for number in range(len(load.populations))]
    one.series = [[] for _ in load.populations]
    marks = sorted(load.marks, key=lambda mark: mark.at)
    tick = one.begun + int(load.interval * 1e9)
    while True:
        now = time.monotonic_ns()
        if (ended and now >= ended) or (any(map(_awaited, load.populations)) and all(one.places("counted"))):
            break
        while marks and now >= one.begun + int(marks[0].at * 1e9):
            one.marks.append(_call(one, marks.pop(0), hooks))
        if now >= tick:
            _interval(one, now)
            tick += int(load.interval * 1e9) * (1 + (now - tick) // int(load.interval * 1e9))
        one.alive()
        progress(one.progress("measuring"))
        until = [tick, now + int(LOOK * 1e9), *([ended] if ended else [])]
        until += [one.begun + int(mark.at * 1e9) for mark in marks[:1]]
        time.sleep(max(0, min(until) - time.monotonic_ns()) / 1e9)


def _call(one: _Run, mark: Mark, hooks: dict[str, Hook]) -> MarkOutcome:
    """Call a hook; what it raises is kept for the outcome, except for Ctrl-C."""
    start = time.monotonic_ns()
    error = ""
    try:
        hooks[mark.name]()
    except Exception as raised:  # noqa: BLE001 - whatever it is, the run goes on and says so
        error = f"{type(raised).__name__}: {raised}"
    return MarkOutcome(mark, (start - one.begun) / 1e9, (time.monotonic_ns() - start) / 1e9, error)


def _interval(one: _Run, now: int) -> None:
    """Close an entry of the series."""
    for number in range(len(one.load.populations)):
        counts, before = one.board.counts(number), one.seen[number]
        middle, high, longest = one.board.interval(number)
        entries = one.series[number]
        at = entries[-1].at + entries[-1].seconds if entries else 0.0
        entries.append(
            Interval(
                at=at,
                seconds=(now - one.begun) / 1e9 - at,
                done=counts["done"] - before["done"],
                failed=counts["all_failed"] - before["all_failed"],
                received=counts["received"] - before["received"],
                sent=counts["sent"] - before["sent"],
                p50=middle / 1e9,
                p99=high / 1e9,
                longest=longest / 1e9,
            )
        )
        one.seen[number] = counts


def _finish(one: _Run, end: Hook, progress: Callable[[Progress], object], bill: Bill) -> None:
    """The measurement is over: what is in flight may end."""
    now = time.monotonic_ns()
    counted = not one.ended and not one.interrupted
    if not one.ended or now < one.ended:
        one.ended = max(now, one.begun)
    if one.begun and counted:  # the last counted exchange ended it, not our look at the board
        last = max(one.places("last"))
        one.ended = min(now, last) if last > one.begun else now
    one.board.steer(end=now if now < one.ended or counted else one.ended)
    if not one.begun:
        one.begun = one.ended
        one.series = [[] for _ in one.load.populations]
        one.seen = [one.board.counts(number) for number in range(len(one.load.populations))]
    else:
        bill.end()
        end()
    if one.ended > one.begun:
        _interval(one, one.ended)
    _await(one, "finishing", lambda: all(one.places("over")), progress)
    for process in one.processes:
        process.wait()


def _outcome(one: _Run, bill: Bill) -> Outcome:
    seconds = (one.ended - one.begun) / 1e9
    started = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=(time.monotonic_ns() - one.begun) / 1e9)
    return Outcome(
        load=one.load,
        started=started.isoformat(timespec="milliseconds"),
        seconds=seconds,
        interrupted=one.interrupted,
        populations=tuple(_population(one, number, seconds) for number in range(len(one.load.populations))),
        generator=_generator(one, bill, seconds),
        marks=tuple(one.marks),
    )


def _population(one: _Run, number: int, seconds: float) -> PopulationOutcome:
    board, counts = one.board, one.board.counts(number)
    return PopulationOutcome(
        population=one.load.populations[number],
        seconds=seconds,
        planned=counts["planned"],
        done=counts["done"],
        failed=failed(board.failed(number)),
        samples=samples(board.samples(number), one.begun),
        sent=counts["sent"],
        received=counts["received"],
        opened=counts["opened"],
        full=counts["full"],
        resumed=counts["resumed"],
        negotiated=board.negotiated(number),
        latency=str(Latency(board.values(number, "latency"))),
        service=str(Latency(board.values(number, "service"))),
        handshake=str(Latency(board.values(number, "handshake"))),
        series=tuple(one.series[number]),
    )


def _generator(one: _Run, bill: Bill, seconds: float) -> Generator:
    busiest, waiting = bill.shares(seconds)
    late = one.board.late(0.99) / 1e9
    why = ""
    if busiest > BUSY:
        why = f"a process of the generator was busy for {busiest:.0%} of the time: use more processes"
    elif late > LATE:
        why = f"the schedule was looked at {late * 1000:.1f} ms late: the machine or the generator is overloaded"
    return Generator(bill.cpu, busiest, waiting, late, limited=bool(why), why=why)
