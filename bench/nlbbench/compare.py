"""The comparison: every trial of every peer, in turn, over and over, until all repetitions are made or Ctrl-C comes.

The order is repetition, then trial, then peer, and each repetition begins with the next peer: A B C, B C A, ... So what is
compared was measured within seconds of each other, and no peer always comes first. What goes wrong with one peer leaves out
that peer, or that trial of it, and says why; the others go on.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nlbbench import floor, material, measure, results
from nlbbench.apart import kept_to
from nlbbench.floor import Floor
from nlbbench.peers import Unfit
from nlbbench.proxies import GROUP, SUITE, VERSION, Kind, find, kind_of
from nlbbench.results import RELAY, Contestant, LeftOut, Report, Sample
from nlbbench.spec import Backend
from nlbbench.stage import Candidate, Stage
from nlbbench.trials import Course, Size, Trial
from nlbcore import __version__
from nlbcore.errors import NlbError

OVERHEAD = 0.5
"""Seconds of a sample beside its length: forking, connecting, the warm-up."""


@dataclass(frozen=True)
class Wish:
    """What is to be compared."""

    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    size: Size
    workers: int = 1
    reference: str = "haproxy"
    floor: bool = True
    """Measure the limit too."""
    certificates: Path | None = None
    """Folder that has them, or is to have them; None: they are made and thrown away."""
    servers: dict[Backend, str] = field(default_factory=dict)
    """Running ones to put behind the peers, instead of ours."""


@dataclass(frozen=True)
class Step:
    """One sample to be taken."""

    repetition: int
    trial: Trial | None
    """None: the floor."""
    candidate: Candidate | None
    seconds: float
    """That it will take, about."""


@dataclass(frozen=True)
class Now:
    """Where a comparison is, for who watches."""

    step: Step | None
    """None: it begins or ends."""
    share: float
    """Of the whole, 0.0 to 1.0."""
    left: float
    """Seconds."""


Watch = Callable[[Now], None]


def choose(
    names: Sequence[str],
    binaries: Mapping[str, Path],
    addresses: Mapping[str, tuple[str, int | None]],
    workers: Mapping[str, int] | None = None,
) -> tuple[list[Candidate], list[LeftOut]]:
    """The candidates of these names, in this order, then those that only `binaries` and `addresses` name.

    Args:
        names: of the peers
        binaries: name -> program, where it is not the one that is installed
        addresses: name -> HOST:PORT and process of one that is running already
        workers: name -> workers, where they are not as many as the others'

    Returns: the candidates, and those whose program is not there.

    Raises:
        NlbError: a name tells no kind
    """
    chosen: list[Candidate] = []
    missing: list[LeftOut] = []
    for name in dict.fromkeys([*names, *binaries, *addresses]):
        if name in addresses:
            address, pid = addresses[name]
            chosen.append(Candidate(name, address=address, pid=pid))
            continue
        kind = kind_of(name)
        binary = binaries.get(name) or find(kind.program)
        if binary is None or not os.access(binary, os.X_OK):
            missing.append(LeftOut(name, f"{binary or kind.program} is not installed"))
        else:
            chosen.append(Candidate(name, kind, binary, workers=(workers or {}).get(name, 0)))
    return chosen, missing


def relay() -> Candidate | None:
    """The plain relay of the floor: this installation's nlb without TLS."""
    kind: Kind = kind_of("nlb")
    binary = find(kind.program)
    return None if binary is None else Candidate(RELAY, kind, binary, tls=False)


def steps(wish: Wish) -> Iterator[Step]:
    """Everything that there is to do, in order."""
    plain = relay() if wish.floor else None
    for repetition in range(wish.size.repetitions):
        if wish.floor:
            yield Step(repetition, None, None, wish.size.floor + 1.0)
        for trial in wish.trials:
            rounds = wish.size.repetitions if trial.course is Course.STEADY else wish.size.events
            if repetition >= rounds:
                continue
            place = repetition % max(len(wish.candidates), 1)
            order = [*wish.candidates[place:], *wish.candidates[:place]]
            if plain is not None and repetition < wish.size.relays and trial.relayed:
                order.append(plain)
            for candidate in order:
                yield Step(repetition, trial, candidate, _expected(wish.size, trial))


def _expected(size: Size, trial: Trial) -> float:
    seconds = size.seconds(trial) + OVERHEAD
    if trial.course is Course.IDLE:
        loads = 4 if size.bursts else 2
        return loads * (size.settle + OVERHEAD) + sum(size.idle) * loads / 2 / 1000
    return seconds if trial.course is Course.STEADY else seconds + 0.8


class Comparison:
    """One run. `run()` returns the report also when Ctrl-C has ended it."""

    def __init__(self, wish: Wish, missing: Sequence[LeftOut] = (), watch: Watch = lambda _now: None) -> None:
        self.wish = wish
        self.watch = watch
        self._left_out = list(missing)
        self._out: set[str] = set()
        """Peers that are left out from here on."""
        self._peers: list[Contestant] = []
        self._samples: list[Sample] = []
        self._floors: list[Floor] = []
        self._plan = list(steps(wish))
        self._total = sum(step.seconds for step in self._plan)
        self._passed = 0.0
        self._begun = time.monotonic()

    def run(self) -> Report:
        """Do it all.

        Raises:
            NlbError: certificates or servers cannot be had
        """
        _allow_descriptors()
        machine = results.machine()
        started = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        interrupted = out_of_time = False
        with tempfile.TemporaryDirectory(prefix="nlb-bench-") as name:
            folder = Path(name)
            certificates = material.provide(self.wish.certificates or folder / "certificates")
            with Stage(folder, certificates, self.wish.workers, self.wish.servers) as stage:
                try:
                    self._introduce()
                    for step in self._plan:
                        if out_of_time := self._out_of_time(step):
                            break
                        self._tell(step, 0.0)
                        self._take(step, stage)
                        self._passed += step.seconds
                except (KeyboardInterrupt, measure.Interrupted):
                    interrupted = True
                self._tell(None, 0.0)
        return Report(
            schema=results.SCHEMA,
            started=started,
            seconds=round(time.monotonic() - self._begun, 1),
            interrupted=interrupted,
            out_of_time=out_of_time,
            size=self.wish.size.name,
            repetitions=self.wish.size.repetitions,
            workers=self.wish.workers,
            reference=self.wish.reference,
            nlb=__version__,
            tls=f"TLS {VERSION}, {SUITE}, {GROUP}, P-256 certificates, client certificate required",
            machine=machine,
            peers=tuple(self._peers),
            trials=tuple(trial.name for trial in self.wish.trials),
            samples=tuple(self._samples),
            floors=tuple(self._floors),
            left_out=tuple(self._left_out),
        )

    def _introduce(self) -> None:
        plain = relay() if self.wish.floor else None
        for candidate in (*self.wish.candidates, *([plain] if plain else [])):
            try:
                self._peers.append(candidate.introduce())
            except NlbError as error:
                self._leave_out(LeftOut(candidate.name, str(error)))

    def _take(self, step: Step, stage: Stage) -> None:
        if step.trial is None or step.candidate is None:
            with kept_to(stage.apart.own(1)):  # where a proxy would be
                self._floors.append(floor.measure(stage.material, self.wish.size.floor))
            return
        name = step.candidate.name
        if name in self._out or any(one.name == name and one.trial == step.trial.name for one in self._left_out):
            return
        bench = measure.Bench(stage, self.wish.size, lambda share: self._tell(step, share))
        try:
            self._samples.append(bench.sample(step.trial, step.candidate, step.repetition))
        except Unfit as error:
            self._leave_out(LeftOut(name, str(error)))
        except NlbError as error:
            self._leave_out(LeftOut(name, str(error), step.trial.name))

    def _out_of_time(self, step: Step) -> bool:
        """The first repetition is always made."""
        return step.repetition > 0 and time.monotonic() - self._begun + step.seconds > self.wish.size.budget

    def _leave_out(self, one: LeftOut) -> None:
        self._left_out.append(one)
        if not one.trial:
            self._out.add(one.name)

    def _tell(self, step: Step | None, share: float) -> None:
        """Time left: what is left of the plan, at the pace so far."""
        done = self._passed + (step.seconds * min(share, 1.0) if step else 0.0)
        spent = time.monotonic() - self._begun
        pace = spent / done if done > self._total / 20 else 1.0
        whole = done / self._total if self._total else 1.0
        left = (self._total - done) * pace
        if step is None or step.repetition > 0:
            left = min(left, max(self.wish.size.budget - spent, 0.0))
        self.watch(Now(step, 1.0 if step is None and done >= self._total else whole, left))


def _allow_descriptors() -> None:
    """As many as this user may have: a proxy needs two for a connection, and inherits the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
