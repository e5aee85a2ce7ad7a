"""The contract of the load generator: what to run, what came out. Frozen, every field explained, JSON there and back.

Times are seconds (float) in what a person writes, nanoseconds inside the histograms. Sizes are bytes of plaintext.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

# ---------------------------------------------------------------- what to run


class Backend(StrEnum):
    """What the server behind does; `nlbbench.backends` starts one of each kind, any other program may stand there."""

    ECHO = "echo"
    """Sends back what it gets, and ends its side when the client has ended."""
    SOURCE = "source"
    """Answers a request of 16 bytes (place in the pattern, size; both big-endian) with so many bytes of the pattern."""
    SINK = "sink"
    """Reads such a request and so many bytes of the pattern, answers 16 bytes: the place, and how many bytes were right."""
    SLOW = "slow"
    """An echo that waits before it reads: with a delay, a size per read, or both."""


class Work(StrEnum):
    """What one exchange is, and when its latency ends."""

    CONNECT = "connect"
    """TCP connect, handshake, one message of `size` and its answer, close_notify and close. Handshakes, full or resumed,
    and churn. Only the answer shows that a client was accepted: in TLS 1.3 it believes so before the server has looked
    at its certificate. The latency ends with the answer's last byte."""
    ECHO = "echo"
    """One message of `size` and its answer on a connection that stays open."""
    DOWNLOAD = "download"
    """One piece of `size` from a source, on a connection that stays open; two pieces are always asked for."""
    UPLOAD = "upload"
    """One piece of `size` to a sink, which confirms it; the next piece does not wait for the confirmation."""
    DUPLEX = "duplex"
    """One piece of `size` to an echo and back, both directions busy all the time, a bounded part of it in flight."""
    IDLE = "idle"
    """Connections that are opened before the measurement, exchange one message of `size` (and one of `burst`) and then
    are silent. They are looked after: one that the other side ends counts as failed."""

    @property
    def backend(self) -> Backend:
        """What has to stand behind for this work."""
        return {Work.DOWNLOAD: Backend.SOURCE, Work.UPLOAD: Backend.SINK}.get(self, Backend.ECHO)

    @property
    def default_size(self) -> int:
        """Of a message (16 to 128 bytes) or of a piece (4 MiB)."""
        return {Work.CONNECT: 16, Work.ECHO: 128, Work.IDLE: 16}.get(self, 4 << 20)


@dataclass(frozen=True)
class Target:
    """Whom to load, and what the client shows and insists on."""

    address: str
    """`192.0.2.1:443`, `[2001:db8::1]:443`, `unix:/run/app.sock` or `name:443` (resolved once, the first answer)."""
    tls: bool = True
    """False: plain TCP, for a relay that is only a floor."""
    server_name: str | None = None
    """Sent as SNI, and what the certificate has to be for; without it the host of `address` (no SNI for an IP address)."""
    ca: Path | None = None
    """PEM file of the roots that the server's certificate is verified with; without it, the system's."""
    verify: bool = True
    """False: any server certificate will do. Chain and name are then not looked at."""
    certificate: Path | None = None
    """PEM file of the client's certificate and its chain; None: the client shows none."""
    private_key: Path | None = None
    """PEM file of its key; None: it is in `certificate`."""
    version: str | None = None
    """1.2 or 1.3: offered alone, so that another one cannot be negotiated. None: both are offered."""
    suite: str | None = None
    """Cipher suite by OpenSSL's name: offered alone. TLS 1.3 suites (TLS_...) and those of 1.2 alike."""
    group: str | None = None
    """Key exchange by OpenSSL's name (X25519, P-256, X25519MLKEM768): offered alone."""


@dataclass(frozen=True)
class Population:
    """Connections that do the same, and are counted together."""

    name: str
    """Its name in the outcome; unique in a load."""
    work: Work
    """What an exchange is."""
    connections: int = 1
    """How many are open at a time, over all processes. In the open model the most that may be; for Work.CONNECT there the
    connections of a backlog, arrivals beyond it wait for one to end, and the wait counts."""
    rate: float | None = None
    """Exchanges a second, all processes together, on a fixed schedule (open model). None: flat out (closed model)."""
    size: int | None = None
    """Bytes of a message each way, or of a piece; None: the work's `default_size`."""
    count: int | None = None
    """Stop after so many exchanges were begun; None: `Load.duration` ends it. When both are given, what comes first."""
    resumed: bool = False
    """Work.CONNECT only. Every measured handshake must be a resumed one, and one that was full has failed (`not_resumed`);
    the sessions come from handshakes before the measurement. False: sessions are never offered, and a handshake that was
    resumed nevertheless has failed."""
    burst: int = 0
    """Work.IDLE only: after the first message so many bytes more, there and back, before the silence."""
    beside: bool = False
    """It only makes the others' life hard: it starts with them, ends with them, and its `count` is not awaited."""

    @property
    def message(self) -> int:
        """The size that holds."""
        return self.work.default_size if self.size is None else self.size


@dataclass(frozen=True)
class Mark:
    """A moment in the middle: the hook of that name is called then (a reload, a worker killed, a server lost)."""

    at: float
    """Seconds after the start of the measurement."""
    name: str
    """Which of the hooks given to `run()`; several marks may call the same one."""


@dataclass(frozen=True)
class Load:
    """One run of the generator."""

    target: Target
    """Whom to load."""
    populations: tuple[Population, ...]
    """What runs side by side; at least one."""
    duration: float | None = 10.0
    """Seconds of measurement; None: until every population that is not `beside` has made its `count`."""
    warmup: float = 0.5
    """Seconds before the measurement, in which the same is done and not counted; after them all connections that stay open
    have been opened and all sessions collected, however long that takes. Failures in it are counted in `failed` all the
    same. 0: nothing is opened before (but for idle connections and sessions), so that a `count` makes exactly that many."""
    processes: int = 1
    """Of the generator. Connections and rates are spread over them evenly. Populations that are `beside` others have as many of
    their own, at a low priority: neither the generator's work for them nor, for the greater part, a wait for a processor that they
    have is in the others' latencies."""
    timeout: float = 10.0
    """Seconds after which an exchange that is not over counts as failed (`timeout`), from its real start."""
    grace: float = 5.0
    """Seconds that exchanges in flight are given at the end; then they have failed (`unfinished`)."""
    interval: float = 1.0
    """Seconds of an entry of the series."""
    marks: tuple[Mark, ...] = ()
    """What happens in the middle."""

    def to_json(self) -> str:
        from pydantic import TypeAdapter  # not at the top: a process of the generator does without

        return TypeAdapter(Load).dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Load:
        """Raises pydantic.ValidationError (a ValueError), which names the field."""
        from pydantic import TypeAdapter

        return TypeAdapter(Load).validate_json(text)


# ---------------------------------------------------------------- what came out


class Failure(StrEnum):
    """Why an exchange did not end well. One word each, and every failed exchange has exactly one."""

    REFUSED = "refused"
    """Nobody listens (ECONNREFUSED), or the connect failed otherwise: unreachable, no descriptor, no port left."""
    ALERT = "alert"
    """The other side sent a TLS alert; the sample says which."""
    CERTIFICATE = "certificate"
    """The server's certificate: not from a known CA, expired, for another name, ..."""
    HANDSHAKE = "handshake"
    """The handshake failed in another way: no TLS at all, nothing in common, closed in the middle of it."""
    NOT_RESUMED = "not_resumed"
    """The handshake was full and had to be resumed."""
    NOT_FULL = "not_full"
    """The handshake was resumed and had to be full."""
    RESET = "reset"
    """The connection was reset (ECONNRESET, EPIPE), after the handshake."""
    TRUNCATED = "truncated"
    """The stream ended before the last byte of the answer, in order (close_notify) or not."""
    CORRUPT = "corrupt"
    """Bytes came that are not the expected ones at their place: changed, dropped, doubled, out of order, of another
    connection."""
    SURPLUS = "surplus"
    """More bytes came than were asked for."""
    TIMEOUT = "timeout"
    """Not over in `Load.timeout`."""
    UNFINISHED = "unfinished"
    """Not over when the run was, and `Load.grace` after it."""
    TLS = "tls"
    """A protocol error after the handshake (a record that does not decrypt, for example)."""


@dataclass(frozen=True)
class Sample:
    """One failed exchange, described. The first few of each kind are kept."""

    failure: Failure
    """Its kind."""
    text: str
    """What a person should read: the alert's name, OpenSSL's reason, the place of the first wrong byte."""
    at: float
    """Seconds after the start of the measurement; negative in the warm-up."""


@dataclass(frozen=True)
class Interval:
    """An entry of the series."""

    at: float
    """Where it begins: seconds after the start of the measurement."""
    seconds: float
    """How long it is: about `Load.interval`, the last one may be shorter."""
    done: int
    """Exchanges that ended well in it."""
    failed: int
    """Exchanges that failed in it."""
    received: int
    """Bytes received in it."""
    sent: int
    """Bytes sent in it (handed to TLS)."""
    p50: float
    """Median latency of those that ended in it, seconds; 0.0 when there are none."""
    p99: float
    """99th percentile."""
    longest: float
    """The longest."""


@dataclass(frozen=True)
class PopulationOutcome:
    """What a population did. The counts are of the measurement; warm-up and what was finished after it are not in them,
    but for failures, none of which is left out.
    """

    population: Population
    """As it was asked for."""
    seconds: float
    """Length of the measurement."""
    planned: int
    """Exchanges of the schedule (open model) or begun (closed model) in the measurement. IDLE: connections that were tried."""
    done: int
    """Ended well."""
    failed: dict[Failure, int]
    """Ended badly, by kind, warm-up included; kinds that did not occur are left out."""
    samples: tuple[Sample, ...]
    """The first failures of each kind."""
    sent: int
    """Bytes sent."""
    received: int
    """Bytes received, all of them compared."""
    opened: int
    """Connections of which the handshake was over, and the first answer there."""
    full: int
    """... with a full handshake."""
    resumed: int
    """... with a resumed one."""
    negotiated: dict[str, int]
    """Connections by what was negotiated ("TLSv1.3 TLS_AES_128_GCM_SHA256 X25519"), warm-up included; "TCP" without TLS."""
    latency: str
    """HdrHistogram of nanoseconds (V2, zlib, base64; three digits): from the planned start (open model) or the real one
    (closed model) to the end. Done exchanges only; `nlbbench.histogram` reads it. IDLE: of its first message."""
    service: str
    """The same from the *real* start: how it would have looked had the waiting been left out. Equal in the closed model."""
    handshake: str
    """From connect() to the end of the client's handshake, for every connection opened in the measurement."""
    series: tuple[Interval, ...]
    """The measurement in steps of `Load.interval`."""

    @property
    def failures(self) -> int:
        """All kinds together."""
        return sum(self.failed.values())

    @property
    def rate(self) -> float:
        """Done exchanges a second."""
        return self.done / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Generator:
    """How the generator itself was doing: a figure from a generator at its limit says nothing about the server."""

    cpu: float
    """CPU seconds (user and system) of all its processes in the measurement."""
    busiest: float
    """Share of the measurement that the busiest process was on a CPU; 1.0: it had no time left."""
    waiting: float
    """Share of the measurement that the processes, on average, were ready and had to wait for a CPU (the kernel's run
    queue); on a machine shared with the server a part of every latency is this."""
    late: float
    """Open model: 99th percentile, in seconds, of how late a process looked at its schedule."""
    limited: bool
    """The generator was the bottleneck, or may have been."""
    why: str
    """In words, when it was; else empty."""


@dataclass(frozen=True)
class MarkOutcome:
    """What became of a mark."""

    mark: Mark
    """As it was asked for."""
    at: float
    """When the hook was really called, seconds after the start of the measurement."""
    took: float
    """How long it ran, seconds."""
    error: str
    """What it raised, else empty. The run goes on."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a run."""

    load: Load
    """As it was asked for."""
    started: str
    """When the measurement began: UTC, ISO 8601."""
    seconds: float
    """Length of the measurement."""
    interrupted: bool
    """Ctrl-C (or the caller) ended it early; what was measured until then is complete."""
    populations: tuple[PopulationOutcome, ...]
    """In the order of the load."""
    generator: Generator
    """How it was doing itself."""
    marks: tuple[MarkOutcome, ...] = field(default=())
    """Those whose time has come."""

    def population(self, name: str) -> PopulationOutcome:
        """Raises KeyError."""
        for one in self.populations:
            if one.population.name == name:
                return one
        raise KeyError(name)

    @property
    def failures(self) -> int:
        """Failed exchanges of all populations."""
        return sum(one.failures for one in self.populations)

    def to_json(self) -> str:
        from pydantic import TypeAdapter  # not at the top: a process of the generator does without

        return TypeAdapter(Outcome).dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Outcome:
        """Raises pydantic.ValidationError (a ValueError), which names the field."""
        from pydantic import TypeAdapter

        return TypeAdapter(Outcome).validate_json(text)


@dataclass(frozen=True)
class Progress:
    """How far a run is, for a progress bar; given to `run()`'s callback several times a second."""

    phase: str
    """One of "opening" (connections, sessions), "warmup", "measuring", "finishing"."""
    seconds: float
    """Of the measurement so far."""
    share: float | None
    """0.0 to 1.0 of the whole run, by time or by count; None: cannot be told."""
    done: int
    """Exchanges that ended well so far, warm-up included."""
    failed: int
    """Exchanges that failed so far."""
