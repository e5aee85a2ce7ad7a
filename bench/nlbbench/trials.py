"""What is measured: the trials, the load that each puts on a proxy, and the figures that it gives.

A trial is *steady* (the same load for a while), *idle* (memory of connections that do nothing), or an *event* (something
happens in the middle of a load, and what counts is which exchanges it cost).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from nlbbench.floor import Floor
from nlbbench.spec import Backend, Population, Work
from nlbcore.errors import NlbError


class Course(StrEnum):
    """How a trial goes."""

    STEADY = "steady"
    IDLE = "idle"
    EVENT = "event"


class Unit(StrEnum):
    """What a figure is in, and so how it is written."""

    SECONDS = "s"
    SECONDS_PER_BYTE = "s/B"
    BYTES = "B"
    PER_SECOND = "/s"
    BYTES_PER_SECOND = "B/s"
    COUNT = "exchanges"


@dataclass(frozen=True)
class Metric:
    """A figure of a trial."""

    name: str
    title: str
    """What it is, in few words: a column's head."""
    unit: Unit
    higher: bool = False
    """More is better."""
    limit: str = ""
    """The field of `Floor` that, with the plain relay's same figure, is its limit; empty: it has none."""
    relayed: bool = True
    """The relay's figure is a part of the limit."""


@dataclass(frozen=True)
class Length:
    """Seconds of a sample."""

    quick: float
    full: float


@dataclass(frozen=True)
class Trial:
    """Something that is measured."""

    name: str
    """On the command line."""
    title: str
    """A heading."""
    what: str
    """One sentence: what is done."""
    metrics: tuple[Metric, ...]
    """The first one is the one that counts."""
    populations: tuple[Population, ...]
    """The load; the first population is the one whose exchanges are counted."""
    length: Length
    course: Course = Course.STEADY
    processes: int = 1
    """Of the generator."""
    event: str = ""
    """What happens in the middle."""
    servers: int = 1
    """Behind the proxy."""
    least_workers: int = 1

    @property
    def backend(self) -> Backend:
        return self.populations[0].work.backend

    @property
    def flat_out(self) -> bool:
        """Its rate is as high as it gets: the closed model."""
        return self.course is Course.STEADY and self.populations[0].rate is None

    @property
    def relayed(self) -> bool:
        """The plain relay is measured too, for the limit."""
        return any(one.limit and one.relayed for one in self.metrics)

    def metric(self, name: str) -> Metric:
        """Raises KeyError."""
        for one in self.metrics:
            if one.name == name:
                return one
        raise KeyError(name)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    name: str
    repetitions: int
    events: int
    """Repetitions of idle trials and events, which are started anew each time."""
    relays: int
    """Repetitions of the plain relay."""
    floor: float
    """Seconds for a sample of the floor."""
    idle: tuple[int, int]
    """Connections between which memory is compared."""
    bursts: bool
    """Memory after bursts too."""
    settle: float = 3.5
    """Seconds of silence after which memory is read: nlb takes the buffers of a silent connection back within three."""
    without: tuple[str, ...] = ()
    """Trials that are left out unless they are asked for."""
    budget: float = inf
    """Seconds after which no step of a second or later repetition is begun."""

    def seconds(self, trial: Trial) -> float:
        """Of a sample."""
        return trial.length.quick if self.name == "quick" else trial.length.full


QUICK = Size(
    "quick",
    repetitions=3,
    events=1,
    relays=1,
    floor=0.6,
    idle=(200, 1000),
    bursts=False,
    without=("churn",),
    budget=165.0,
)
FULL = Size("full", repetitions=5, events=1, relays=2, floor=3.0, idle=(500, 2500), bursts=True, budget=690.0)


def limit(metric: Metric, floor: Floor | None, relay: float | None) -> float | None:
    """What the figure cannot be better than here: OpenSSL in memory and a relay without TLS, one after the other.

    Args:
        metric: the figure
        floor: the lowest of each part of the floor
        relay: the relay's lowest of the same figure
    """
    if not metric.limit or floor is None or (metric.relayed and relay is None):
        return None
    alone: float = getattr(floor, metric.limit)
    return alone + (relay or 0.0 if metric.relayed else 0.0)


def _latency(*, counts: bool = True) -> tuple[Metric, ...]:
    first = Metric("p50", "median latency", Unit.SECONDS)
    return (first, Metric("p99", "99th percentile", Unit.SECONDS)) if counts else (first,)


_RATE = Metric("rate", "rate", Unit.PER_SECOND, higher=True)
_SPEED = Metric("speed", "throughput", Unit.BYTES_PER_SECOND, higher=True)


def _per_handshake(limit_name: str) -> tuple[Metric, ...]:
    return (Metric("cpu", "CPU time each", Unit.SECONDS, limit=limit_name), _RATE, *_latency())


def _per_byte(limit_name: str) -> tuple[Metric, ...]:
    return (Metric("cpu", "CPU time per GB", Unit.SECONDS_PER_BYTE, limit=limit_name), _SPEED)


_EVENT = (
    Metric("failed", "failed exchanges", Unit.COUNT),
    Metric("longest", "longest answer", Unit.SECONDS),
    Metric("p99", "99th percentile", Unit.SECONDS),
)
_LIFE = (
    Population("messages", Work.ECHO, connections=32, rate=400.0),
    Population("arrivals", Work.CONNECT, connections=64, rate=60.0),
)

TRIALS = {
    trial.name: trial
    for trial in (
        Trial(
            "full",
            "Full handshakes",
            "Connect, full mutual handshake, 16 bytes there and back, close; 16 clients, each as fast as it can.",
            _per_handshake("full_without_tickets"),
            (Population("clients", Work.CONNECT, connections=16),),
            Length(0.6, 2.0),
            processes=2,
        ),
        Trial(
            "resumed",
            "Resumed handshakes",
            "The same with a session ticket from before.",
            _per_handshake("resumed"),
            (Population("clients", Work.CONNECT, connections=16, resumed=True),),
            Length(0.5, 1.5),
            processes=2,
        ),
        Trial(
            "download",
            "Bulk to the client",
            "One connection, pieces of 4 MB from the server to the client.",
            _per_byte("download"),
            (Population("clients", Work.DOWNLOAD, connections=1),),
            Length(0.4, 1.5),
        ),
        Trial(
            "upload",
            "Bulk to the server",
            "One connection, pieces of 4 MB from the client to the server.",
            _per_byte("upload"),
            (Population("clients", Work.UPLOAD, connections=1),),
            Length(0.4, 1.5),
        ),
        Trial(
            "echo",
            "Small messages, 64 connections",
            "128 bytes there and back on 64 connections, each as fast as it can.",
            (Metric("cpu", "CPU time each", Unit.SECONDS, limit="message"), _RATE, *_latency()),
            (Population("clients", Work.ECHO, connections=64),),
            Length(0.5, 1.5),
        ),
        Trial(
            "single",
            "Small messages, one connection",
            "128 bytes there and back on one connection: how long it takes when there is nothing else to do.",
            (
                Metric("p50", "median latency", Unit.SECONDS, limit="message"),
                Metric("p99", "99th percentile", Unit.SECONDS),
                Metric("cpu", "CPU time each", Unit.SECONDS, limit="message"),
            ),
            (Population("clients", Work.ECHO, connections=1),),
            Length(0.3, 1.0),
        ),
        Trial(
            "storm",
            "Small messages beside a storm of handshakes",
            "128 bytes there and back, 200 a second on 4 connections, while 64 clients make full handshakes as fast as they can.",
            (*_latency(), Metric("longest", "longest", Unit.SECONDS)),
            (
                Population("messages", Work.ECHO, connections=4, rate=200.0),
                Population("storm", Work.CONNECT, connections=64, beside=True),
            ),
            Length(0.8, 2.5),
            processes=2,
        ),
        Trial(
            "churn",
            "Short connections, 1 KB each way",
            "Connect, full mutual handshake, 1 KB there and back, close; 16 clients, each as fast as it can.",
            _per_handshake("full_without_tickets"),
            (Population("clients", Work.CONNECT, connections=16, size=1024),),
            Length(0.5, 1.5),
            processes=2,
        ),
        Trial(
            "idle",
            "Idle connections",
            "User memory of a connection that has moved a few bytes and is silent, also after 64 KB each way; of the proxy without any.",
            (
                Metric("connection", "memory each", Unit.BYTES, limit="idle", relayed=False),
                Metric("burst", "each, after 64 KB", Unit.BYTES, limit="idle", relayed=False),
                Metric("base", "without any", Unit.BYTES),
            ),
            (Population("clients", Work.IDLE),),
            Length(0.5, 1.0),
            course=Course.IDLE,
        ),
        Trial(
            "reload",
            "A reload in the middle",
            "The server's certificate is renewed under messages and new connections.",
            _EVENT,
            _LIFE,
            Length(1.0, 4.0),
            course=Course.EVENT,
            event="reload",
        ),
        Trial(
            "kill",
            "A worker killed in the middle",
            "SIGKILL for the worker that has done most; its own connections are lost, no others may be.",
            _EVENT,
            _LIFE,
            Length(1.0, 4.0),
            course=Course.EVENT,
            event="kill",
            least_workers=2,
        ),
        Trial(
            "loss",
            "A server lost in the middle",
            "One of the two servers behind is killed; its own connections are lost, new ones go to the other.",
            _EVENT,
            _LIFE,
            Length(1.0, 4.0),
            course=Course.EVENT,
            event="loss",
            servers=2,
        ),
    )
}


def chosen(names: Sequence[str], size: Size) -> list[Trial]:
    """The trials of these names, in the order of `TRIALS`; none: those of the size.

    Raises:
        NlbError: there is no such trial
    """
    if unknown := [name for name in names if name not in TRIALS]:
        raise NlbError(f"{', '.join(unknown)}: no such scenario; there are {', '.join(TRIALS)}")
    return [trial for name, trial in TRIALS.items() if (name in names if names else name not in size.without)]
