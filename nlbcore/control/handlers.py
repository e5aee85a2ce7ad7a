"""What the verbs of the control socket answer; the supervisor hands over what it knows, nothing here reaches into it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlbcore.config.model import Config, Server
from nlbcore.errors import NlbError
from nlbcore.segment import REASONS, STATES, UNHEALTHY, Block, Segment
from nlbcore.termination import WORDS

Handler = Callable[[dict[str, Any]], dict[str, Any] | None]
State = Literal["starting", "running", "draining"]
VERSIONS = ("other", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""The rows of a listener's handshake counters."""
_YEAR_9999 = 253402300799


@dataclass(frozen=True)
class WorkerView:
    """A worker slot.

    Attributes:
        slot: its number
        pid: of the process in it, 0 for none
        state: "running", or another word of `nlbcore.process.fleet.State`: it does not serve
        restarts: how often its process was replaced
        since: when it came into this state, Unix seconds
    """

    slot: int
    pid: int
    state: str
    restarts: int
    since: float


@dataclass(frozen=True)
class CertificateView:
    """A server certificate in force: the fields of `nlbcore.tls.material.ServerCertificate` without the key."""

    listener: str
    path: Path
    names: tuple[str, ...]
    not_after: datetime.datetime


@dataclass(frozen=True)
class CrlView:
    """A revocation list in force; `next_update` is None where the list does not say."""

    listener: str
    issuer: str
    next_update: datetime.datetime | None


@dataclass(frozen=True)
class View:
    """What the supervisor knows at this moment.

    Attributes:
        node: `[node] name`
        version: of nlb
        pid: the supervisor's
        generation: in force
        started: when the supervisor was started, Unix seconds
        state: "starting", "running" or "draining"
        config: the configuration of the generation
        listeners: rows of the segment by name
        servers: rows of the segment by (group, server)
        segment: the counters and verdicts
        workers: one for each slot
        certificates: in force, in the order of the configuration
        crls: in force
    """

    node: str
    version: str
    pid: int
    generation: int
    started: float
    state: State
    config: Config
    listeners: Mapping[str, int]
    servers: Mapping[tuple[str, str], int]
    segment: Segment
    workers: tuple[WorkerView, ...] = ()
    certificates: tuple[CertificateView, ...] = ()
    crls: tuple[CrlView, ...] = ()


def by_verb(handlers: Mapping[str, Handler]) -> Callable[[str, dict[str, Any]], dict[str, Any] | None]:
    """The server's `answer` from a table of verbs."""

    def answer(verb: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        if verb not in handlers:
            raise NlbError(f'this balancer does not know "{verb[:40]}"; it knows {", ".join(handlers)}')
        return handlers[verb](arguments)

    return answer


def status(view: View) -> dict[str, Any]:
    """Everything that can be seen at a glance, as JSON: lists in the order of the configuration, moments in UTC.

    `connections` are those of now, `connections_total` all since the start; bytes are of the clients, decrypted.
    """
    blocks = [view.segment.block(slot) for slot in range(view.segment.slots)]
    listeners = [_listener(view, blocks, name) for name in view.config.listeners]
    now = time.time()
    return {
        "node": view.node,
        "version": view.version,
        "pid": view.pid,
        "generation": view.generation,
        "state": view.state,
        "started": _moment(view.started),
        "uptime_s": round(now - view.started, 3),
        "connections": sum(listener["connections"] for listener in listeners),
        "listeners": listeners,
        "server_groups": [_group(view, blocks, name) for name in view.config.server_groups],
        "certificates": [
            {
                "listener": one.listener,
                "path": str(one.path),
                "names": list(one.names),
                "not_after": _moment(one.not_after.timestamp()),
                "days_left": _days(one.not_after, now),
            }
            for one in view.certificates
        ],
        "crls": [
            {
                "listener": one.listener,
                "issuer": one.issuer,
                "next_update": one.next_update and _moment(one.next_update.timestamp()),
                "days_left": one.next_update and _days(one.next_update, now),
            }
            for one in view.crls
        ],
        "workers": [_worker(view, worker) for worker in view.workers],
    }


def _listener(view: View, blocks: list[Block], name: str) -> dict[str, Any]:
    listener = view.config.listeners[name]
    rows = [block.listeners[view.listeners[name]] for block in blocks]
    handshakes = {
        version: {"full": full, "resumed": resumed}
        for number, version in enumerate(VERSIONS)
        if (full := sum(row.handshakes[number][0] for row in rows))
        + (resumed := sum(row.handshakes[number][1] for row in rows))
    }
    terminations = {
        word: count for number, word in enumerate(WORDS) if (count := sum(row.terminations[number] for row in rows))
    }
    return {
        "name": name,
        "bind": [str(endpoint) for endpoint in listener.bind],
        "protocol": listener.protocol,
        "server_group": listener.server_group,
        "connections": sum(row.live for row in rows),
        "connections_total": sum(row.connections for row in rows),
        "received_bytes": sum(row.received for row in rows),
        "sent_bytes": sum(row.sent for row in rows),
        "handshakes": handshakes,
        "terminations": terminations,
    }


def _group(view: View, blocks: list[Block], name: str) -> dict[str, Any]:
    """`usable` counts the servers that get new connections by right; `fail_open`: none does, so all get them."""
    group = view.config.server_groups[name]
    servers = [_server(view, blocks, name, server) for server in group.servers]
    wanted = [server for server in servers if server["weight"] > 0]
    usable = [server for server in wanted if server["state"] not in ("Unhealthy", "Draining")]
    return {
        "name": name,
        "scheduler": group.scheduler,
        "health_check": group.health_check.enabled,
        "usable": len(usable),
        "fail_open": bool(wanted) and not usable,
        "servers": servers,
    }


def _server(view: View, blocks: list[Block], group: str, server: Server) -> dict[str, Any]:
    number = view.servers[group, server.name]
    rows = [block.servers[number] for block in blocks]
    verdict = view.segment.verdicts[number]
    return {
        "name": server.name,
        "address": str(server.address),
        "weight": server.weight,
        "state": _word(STATES, verdict.state),
        "reason": _word(REASONS, verdict.reason) if verdict.state == UNHEALTHY else "",
        "since": _moment(verdict.since_ms / 1000) if verdict.since_ms else None,
        "connections": sum(row.live for row in rows),
        "connections_total": sum(row.connections for row in rows),
        "connect_failed": sum(row.connect_failed for row in rows),
        "connect_timeout": sum(row.connect_timeout for row in rows),
    }


def _worker(view: View, worker: WorkerView) -> dict[str, Any]:
    block = view.segment.block(worker.slot)
    age = time.monotonic_ns() // 1_000_000 - int(block.heartbeat)
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "state": worker.state,
        "restarts": worker.restarts,
        "since": _moment(worker.since),
        "connections": sum(block.listeners[row].live for row in view.listeners.values()),
        "connections_total": sum(block.listeners[row].connections for row in view.listeners.values()),
        "heartbeat_age_ms": max(0, age) if block.heartbeat else None,
        "longest_stall_ms": block.stall_us / 1000,
    }


def _word(words: tuple[str, ...], number: int) -> str:
    """The prober, which talks to the network, writes the numbers: they are not taken on trust."""
    return words[number] if number < len(words) else f"unknown ({number})"


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(min(seconds, _YEAR_9999), datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _days(moment: datetime.datetime, now: float) -> float:
    """To two digits; what is over is below zero, however little."""
    days = round((moment.timestamp() - now) / 86400, 2)
    return min(days, -0.01) if moment.timestamp() <= now else days
