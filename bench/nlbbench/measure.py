"""One sample: a load is put on a proxy, and what the proxy has used meanwhile is read from the kernel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nlbbench import accounting, load, peers
from nlbbench.histogram import Latency
from nlbbench.material import NAME, Material, renew_server
from nlbbench.peers import Peer
from nlbbench.proxies import GROUP, SUITE, VERSION
from nlbbench.results import Sample
from nlbbench.spec import Load, Mark, Outcome, Population, PopulationOutcome, Progress, Target, Work
from nlbbench.stage import Candidate, Stage
from nlbbench.trials import Course, Size, Trial
from nlbcore.errors import NlbError

WARM_UP = 0.2
SATURATED = 0.9
"""Share of its workers' time from which on a proxy counts as busy: below it, a rate is not its own limit."""
EXAMPLES = 3
BURST = 64 << 10


class Interrupted(Exception):  # noqa: N818 - nothing has gone wrong
    """Ctrl-C came while a load was running; its sample is not complete."""


class Meter:
    """CPU time of a peer between two moments of a load."""

    def __init__(self, peer: Peer) -> None:
        self._pids = accounting.tree(*peer.roots)
        self._readings: list[tuple[float, float]] = []

    def read(self) -> None:
        """Now: at the beginning and at the end of a measurement."""
        cpu = sum(accounting.cpu_clock(pid) for pid in self._pids)
        self._readings.append((time.monotonic(), cpu))

    @property
    def per_second(self) -> float | None:
        """CPU seconds a second; None: there are no processes, or the load ended too early."""
        if not self._pids or len(self._readings) < 2:
            return None
        (begin, before), (end, after) = self._readings[0], self._readings[-1]
        return (after - before) / (end - begin)


@dataclass(frozen=True)
class Bench:
    """Takes samples on a stage."""

    stage: Stage
    size: Size
    tell: Callable[[float], None]
    """Told the share that is done."""

    def sample(self, trial: Trial, candidate: Candidate, repetition: int) -> Sample:
        """Measure.

        Raises:
            NlbError: the proxy does not come up, or cannot do this
            Interrupted: by Ctrl-C
        """
        if trial.course is Course.IDLE:
            return self._idle(trial, candidate, repetition)
        if trial.course is Course.EVENT:
            return self._event(trial, candidate, repetition)
        return self._steady(trial, candidate, repetition)

    # ------------------------------------------------------------ the three courses

    def _steady(self, trial: Trial, candidate: Candidate, repetition: int) -> Sample:
        peer = self.stage.standing(candidate, trial.backend)
        meter = Meter(peer)
        outcome = self._run(
            self._load(trial, peer, trial.populations, self.size.seconds(trial)), begin=meter.read, end=meter.read
        )
        first = outcome.populations[0]
        values = {"rate": first.rate, "longest": max((one.longest for one in first.series), default=0.0)}
        values |= _percentiles(first)
        if first.population.work in {Work.DOWNLOAD, Work.UPLOAD}:
            values["speed"] = (first.received + first.sent) / first.seconds
        used = meter.per_second
        if used is not None and first.done:
            values["cpu"] = used / values.get("speed", first.rate)
        busy = None if used is None else used / self.stage.workers_of(candidate)
        return _sample(trial, candidate, repetition, [outcome], values, busy)

    def _idle(self, trial: Trial, candidate: Candidate, repetition: int) -> Sample:
        values: dict[str, float] = {}
        outcomes: list[Outcome] = []
        for burst in (0, BURST) if self.size.bursts else (0,):
            with self.stage.fresh(candidate, trial.backend) as peer:
                if not peer.roots:
                    raise NlbError("memory is counted of processes, and none is known: name one with --pid")
                values.setdefault("base", float(_memory(peer)))
                points: list[int] = []
                for count in self.size.idle:
                    clients = Population("clients", Work.IDLE, connections=count, burst=burst)
                    outcome = self._run(
                        replace(self._load(trial, peer, (clients,), self.size.settle), warmup=0.0),
                        end=partial(_note_memory, peer, points),
                    )
                    if outcome.failures:
                        raise NlbError(
                            f"{outcome.failures} of {count} idle connections did not stay: {_texts([outcome])[0]}"
                        )
                    outcomes.append(outcome)
                values["burst" if burst else "connection"] = (points[1] - points[0]) / (
                    self.size.idle[1] - self.size.idle[0]
                )
        return _sample(trial, candidate, repetition, outcomes, values)

    def _event(self, trial: Trial, candidate: Candidate, repetition: int) -> Sample:
        with contextlib.ExitStack() as stack:
            happen: Callable[[], None]
            if trial.event == "loss":
                peer, happen = stack.enter_context(self.stage.before_two(candidate, trial.backend))
            else:
                fresh = self.stage.fresh(candidate, trial.backend, workers=trial.least_workers)
                peer = stack.enter_context(fresh)
                happen = peer.kill_worker
            renewed = self._renewed(peer) if trial.event == "reload" else None
            if renewed is not None:
                happen = partial(peer.reload, renewed)
            elif trial.event == "kill":
                peer.can_lose_a_worker()
            seconds = self.size.seconds(trial)
            outcome = self._run(
                self._load(trial, peer, trial.populations, seconds, (Mark(seconds / 3, "event"),)),
                hooks={"event": happen},
            )
            if errors := [one.error for one in outcome.marks if one.error]:
                raise NlbError(f"what was to happen in the middle did not: {errors[0]}")
            if renewed is not None and not peers.shows(peer, self.stage.material, renewed[0]):
                raise NlbError("after the reload it does not show the new certificate")
        longest = max((entry.longest for one in outcome.populations for entry in one.series), default=0.0)
        values = {"failed": float(outcome.failures), "longest": longest, **_percentiles(outcome.populations[0])}
        return _sample(trial, candidate, repetition, [outcome], values)

    # ------------------------------------------------------------ one load

    def _load(
        self,
        trial: Trial,
        peer: Peer,
        populations: Sequence[Population],
        seconds: float,
        marks: Sequence[Mark] = (),
    ) -> Load:
        if not peer.tls:
            populations = [replace(one, resumed=False) for one in populations]
        return Load(
            _target(peer, self.stage.material),
            tuple(populations),
            duration=seconds,
            warmup=WARM_UP,
            processes=trial.processes,
            marks=tuple(marks),
        )

    def _run(
        self,
        wanted: Load,
        *,
        hooks: Mapping[str, Callable[[], object]] | None = None,
        begin: Callable[[], object] = load.nothing,
        end: Callable[[], object] = load.nothing,
    ) -> Outcome:
        outcome = load.run(wanted, hooks=hooks, begin=begin, end=end, progress=self._progress)
        if outcome.interrupted:
            raise Interrupted
        return outcome

    def _progress(self, progress: Progress) -> None:
        self.tell(progress.share or 0.0)

    def _renewed(self, peer: Peer) -> tuple[Path, Path]:
        if peer.order is None:
            raise NlbError("it was not started here: it cannot be reloaded")
        folder = peer.order.folder / "renewed"
        folder.mkdir(mode=0o700)
        return renew_server(self.stage.material, folder)


def _target(peer: Peer, material: Material) -> Target:
    if not peer.tls:
        return Target(peer.address, tls=False)
    return Target(
        peer.address,
        server_name=NAME,
        ca=material.root,
        certificate=material.client,
        private_key=material.client_key,
        version=VERSION,
        suite=SUITE,
        group=GROUP,
    )


def _note_memory(peer: Peer, points: list[int]) -> None:
    points.append(_memory(peer))


def _memory(peer: Peer) -> int:
    return accounting.memory(*peer.processes()).proportional


def _percentiles(one: PopulationOutcome) -> dict[str, float]:
    """Of the latencies, in seconds; none where nothing was done."""
    if not one.done:
        return {}
    latencies = Latency.read(one.latency)
    return {name: latencies.percentile(share) for name, share in (("p50", 50.0), ("p99", 99.0))}


def _limited(trial: Trial, outcome: Outcome, busy: float | None) -> str:
    """Why a rate is not the proxy's own limit; empty if it is, as far as can be told."""
    if not trial.flat_out or not any(metric.higher for metric in trial.metrics):
        return ""
    if busy is not None and busy < SATURATED:
        return outcome.generator.why or "the clients, the servers or what else ran had no more"
    return ""


def _texts(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The first failures, in words."""
    found = (
        f"{sample.failure.value}: {sample.text}"
        for outcome in outcomes
        for one in outcome.populations
        for sample in one.samples
    )
    return tuple(dict.fromkeys(found))[:EXAMPLES]


def _sample(
    trial: Trial,
    candidate: Candidate,
    repetition: int,
    outcomes: Sequence[Outcome],
    values: Mapping[str, float],
    busy: float | None = None,
) -> Sample:
    failed: dict[str, int] = {}
    for one in (population for outcome in outcomes for population in outcome.populations):
        for kind, count in one.failed.items():
            failed[kind.value] = failed.get(kind.value, 0) + count
    wanted = {metric.name for metric in trial.metrics}
    return Sample(
        trial.name,
        candidate.name,
        repetition,
        {name: value for name, value in values.items() if name in wanted},
        exchanges=sum(one.done for outcome in outcomes for one in outcome.populations),
        failed=failed,
        failures=_texts(outcomes),
        busy=busy,
        limited=_limited(trial, outcomes[-1], busy),
    )
