"""What `nlb top` knows: the balancer's latest answer to `status`, and from the one before it what happens per second.

Pure: no socket, no clock, no terminal. A rate is None as long as it is not known: there is one answer only, or the
balancer has been started anew in between, or a counter begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nlbcore.control.client import STUCK_MS, problems
from nlbcore.errors import NlbError

Status = dict[str, Any]
Rate = float | None
Grade = Literal["", "warning", "bad"]

SOON = 14.0
"""Days before its end in which a certificate is marked."""
SOON_CRL = 1.0
"""The same for a revocation list: lists live for days."""
_FULL = 0.9
"""Part of its connections from which a listener is marked."""

_KINDS = {
    "ended": "client_close server_close idle_timeout drained killed client_reset server_reset truncated shutdown probe",
    "client": "no_certificate unknown_ca expired not_yet_valid revoked crl_overdue crl_missing wrong_purpose"
    " bad_signature chain_too_long weak_key bad_certificate not_allowed denied",
    "live": "became_revoked became_expired became_refused protocol_error",
    "handshake": "no_shared_cipher unsupported_version unknown_name no_alpn not_tls handshake_timeout handshake_error"
    " bad_proxy_header client_alert",
    "limit": "cps_limit connection_limit overload",
    "server": "no_server connect_timeout connect_failed",
}
KIND = {word: kind for kind, words in _KINDS.items() for word in words.split()}
"""Word of a termination -> what kind of end it is."""
REFUSED = frozenset({"client", "handshake", "limit"})
"""The kinds of a connection that was turned away."""
WELL = frozenset({"ended"})
"""The kinds of an end that is nobody's trouble."""


@dataclass(frozen=True)
class Sample:
    """An answer to `status`, and when it came (seconds of the monotonic clock)."""

    moment: float
    status: Status


@dataclass(frozen=True)
class Reload:
    """The last reload: when (UTC, as in `status`), and how it went; why it was refused is among the problems."""

    time: str
    successful: bool
    trigger: str
    changes: int


@dataclass(frozen=True)
class Head:
    """The balancer as a whole."""

    node: str
    version: str
    pid: int
    state: str
    generation: int
    older: int
    """How many earlier generations still have connections."""
    uptime: float
    reload: Reload | None
    reloads_refused: int
    connections: int
    new: Rate
    full: Rate
    resumed: Rate
    refused: Rate
    received: Rate
    sent: Rate


@dataclass(frozen=True)
class Listener:
    """A listener; `refused` counts connections that were turned away, for whatever reason."""

    name: str
    bind: tuple[str, ...]
    protocol: str
    client_auth: str
    group: str
    connections: int
    maximum: int
    new: Rate
    full: Rate
    resumed: Rate
    refused: Rate
    received: Rate
    sent: Rate
    grade: Grade


@dataclass(frozen=True)
class Server:
    """A server; `errors` are connections to it that failed or took too long."""

    group: str
    name: str
    address: str
    state: str
    reason: str
    admin: str
    weight: int
    configured_weight: int
    connections: int
    new: Rate
    errors: Rate
    errors_total: int
    grade: Grade


@dataclass(frozen=True)
class Ending:
    """Why connections ended, over all listeners; `listeners` are those that had any, the most frequent first."""

    word: str
    kind: str
    total: int
    rate: Rate
    listeners: tuple[str, ...]
    grade: Grade


@dataclass(frozen=True)
class Expiry:
    """Something with an end: a certificate, or a revocation list (`days` None: it does not say when)."""

    kind: Literal["certificate", "CRL"]
    listener: str
    subject: str
    path: str
    end: str
    days: float | None
    grade: Grade


@dataclass(frozen=True)
class Process:
    """A worker (named by its slot) or an attendant; what an attendant does not have is None."""

    name: str
    pid: int
    state: str
    connections: int | None
    new: Rate
    restarts: int
    heartbeat_ms: int | None
    stall_ms: float | None
    grade: Grade


@dataclass(frozen=True)
class Frame:
    """All that is shown at one moment."""

    head: Head
    listeners: tuple[Listener, ...]
    servers: tuple[Server, ...]
    endings: tuple[Ending, ...]
    expiries: tuple[Expiry, ...]
    processes: tuple[Process, ...]
    problems: tuple[str, ...]


def frame(before: Sample | None, after: Sample) -> Frame:
    """What two answers say together; with the first one alone there are no rates.

    Raises:
        NlbError: they are not what this version understands
    """
    try:
        return _frame(before, after)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        version = after.status.get("version", "unknown")
        raise NlbError(f"the balancer's answer cannot be understood ({error!r}): its version is {version}") from None


def _frame(before: Sample | None, after: Sample) -> Frame:
    status = after.status
    same = before is not None and _life(before.status) == _life(status)
    change = _Change(
        before.status if before is not None and same else {},
        after.moment - before.moment if before is not None and same else 0.0,
    )
    listeners = tuple(change.listener(one) for one in status["listeners"])
    return Frame(
        head=_head(status, listeners),
        listeners=listeners,
        servers=tuple(change.server(group, one) for group in status["server_groups"] for one in group["servers"]),
        endings=change.endings(status["listeners"]),
        expiries=_expiries(status),
        processes=(
            *(change.worker(one) for one in status["workers"]),
            *(_attendant(one) for one in status["attendants"]),
        ),
        problems=tuple(problems(status, SOON)),
    )


class _Change:
    """From an earlier answer (empty: there is none) to a later one."""

    def __init__(self, before: Status, seconds: float) -> None:
        self._seconds = seconds
        self._listeners = {one["name"]: one for one in before.get("listeners", ())}
        self._servers = {
            (group["name"], one["name"]): one for group in before.get("server_groups", ()) for one in group["servers"]
        }
        self._workers = {one["slot"]: one for one in before.get("workers", ())}

    def _rate(self, old: Status | None, new: Status, count: Callable[[Status], int]) -> Rate:
        """Per second; None where the thing was not there before, or counts from the beginning again."""
        if old is None or self._seconds <= 0 or (more := count(new) - count(old)) < 0:
            return None
        return more / self._seconds

    def listener(self, one: Status) -> Listener:
        old = self._listeners.get(one["name"])
        maximum = one["max_connections"]
        part = one["connections"] / maximum if maximum else 0
        return Listener(
            name=one["name"],
            bind=tuple(one["bind"]),
            protocol=one["protocol"],
            client_auth=one["client_auth"],
            group=one["server_group"],
            connections=one["connections"],
            maximum=maximum,
            new=self._rate(old, one, lambda at: at["connections_total"]),
            full=self._rate(old, one, lambda at: _handshakes(at, "full")),
            resumed=self._rate(old, one, lambda at: _handshakes(at, "resumed")),
            refused=self._rate(old, one, _refused),
            received=self._rate(old, one, lambda at: at["received_bytes"]),
            sent=self._rate(old, one, lambda at: at["sent_bytes"]),
            grade="bad" if part >= 1 else "warning" if part >= _FULL else "",
        )

    def server(self, group: Status, one: Status) -> Server:
        old = self._servers.get((group["name"], one["name"]))
        errors = self._rate(old, one, _errors)
        grade: Grade = "warning" if one["state"] in ("Initial", "Draining") or errors else ""
        return Server(
            group=group["name"],
            name=one["name"],
            address=one["address"],
            state=one["state"],
            reason=one["reason"],
            admin=one["admin"],
            weight=one["weight"],
            configured_weight=one["configured_weight"],
            connections=one["connections"],
            new=self._rate(old, one, lambda at: at["connections_total"]),
            errors=errors,
            errors_total=_errors(one),
            grade="bad" if one["state"] not in ("Available", "Unavailable", "Initial", "Draining") else grade,
        )

    def endings(self, listeners: list[Status]) -> tuple[Ending, ...]:
        """By rate, then by number; a listener that was not there before has no rate to add."""
        words = {word for one in listeners for word in one["terminations"]}
        found = []
        for word in words:
            rates = [self._rate(self._listeners.get(one["name"]), one, _ends(word)) for one in listeners]
            some = sorted((-one["terminations"].get(word, 0), one["name"]) for one in listeners)
            rate = _sum(rates)
            kind = KIND.get(word, "other")
            found.append(
                Ending(
                    word=word,
                    kind=kind,
                    total=-sum(count for count, _ in some),
                    rate=rate,
                    listeners=tuple(name for count, name in some if count),
                    grade="warning" if rate and kind not in WELL else "",
                )
            )
        return tuple(sorted(found, key=lambda one: (-(one.rate or 0), -one.total, one.word)))

    def worker(self, one: Status) -> Process:
        age = one["heartbeat_age_ms"]
        return Process(
            name=str(one["slot"]),
            pid=one["pid"],
            state=one["state"],
            connections=one["connections"],
            new=self._rate(self._workers.get(one["slot"]), one, lambda at: at["connections_total"]),
            restarts=one["restarts"],
            heartbeat_ms=age,
            stall_ms=one["longest_stall_ms"],
            grade="bad" if one["state"] == "running" and (age or 0) >= STUCK_MS else _process_grade(one["state"]),
        )


def _head(status: Status, listeners: tuple[Listener, ...]) -> Head:
    last = status["reload"]
    return Head(
        node=status["node"],
        version=status["version"],
        pid=status["pid"],
        state=status["state"],
        generation=status["generation"],
        older=max(0, len(status["generations"]) - 1),
        uptime=status["uptime_s"],
        reload=Reload(last["time"], last["successful"], last["trigger"], len(last["changes"])) if last else None,
        reloads_refused=status["reloads"]["failed"],
        connections=status["connections"],
        new=_sum(one.new for one in listeners),
        full=_sum(one.full for one in listeners),
        resumed=_sum(one.resumed for one in listeners),
        refused=_sum(one.refused for one in listeners),
        received=_sum(one.received for one in listeners),
        sent=_sum(one.sent for one in listeners),
    )


def _attendant(one: Status) -> Process:
    return Process(
        name=one["name"],
        pid=one["pid"],
        state=one["state"],
        connections=None,
        new=None,
        restarts=one["restarts"],
        heartbeat_ms=None,
        stall_ms=None,
        grade=_process_grade(one["state"]),
    )


def _process_grade(state: str) -> Grade:
    if state in ("running", "retiring", "retired", "ended"):  # all as somebody wanted it
        return ""
    return "warning" if state == "starting" else "bad"


def _expiries(status: Status) -> tuple[Expiry, ...]:
    """What ends first stands first; what never ends, last."""
    found = [
        Expiry(
            kind="certificate",
            listener=one["listener"],
            subject=", ".join(one["names"]),
            path=one["path"],
            end=one["not_after"],
            days=one["days_left"],
            grade=_expiry_grade(one["days_left"], SOON),
        )
        for one in status["certificates"]
    ] + [
        Expiry(
            kind="CRL",
            listener=one["listener"],
            subject=one["issuer"],
            path="",
            end=one["next_update"] or "",
            days=one["days_left"],
            grade=_expiry_grade(one["days_left"], SOON_CRL),
        )
        for one in status["crls"]
    ]
    return tuple(sorted(found, key=lambda one: float("inf") if one.days is None else one.days))


def _expiry_grade(days: float | None, soon: float) -> Grade:
    if days is None or days >= soon:
        return ""
    return "bad" if days < 0 else "warning"


def _life(status: Status) -> tuple[object, ...]:
    """What is another after a new start: counters begin at zero then."""
    return status["pid"], status["started"]


def _handshakes(listener: Status, kind: str) -> int:
    return sum(both[kind] for both in listener["handshakes"].values())


def _refused(listener: Status) -> int:
    counts: Mapping[str, int] = listener["terminations"]
    return sum(count for word, count in counts.items() if KIND.get(word) in REFUSED)


def _ends(word: str) -> Callable[[Status], int]:
    return lambda listener: listener["terminations"].get(word, 0)


def _errors(server: Status) -> int:
    return int(server["connect_failed"] + server["connect_timeout"])


def _sum(rates: Iterable[Rate]) -> Rate:
    """Of those that are known; None where none is."""
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
