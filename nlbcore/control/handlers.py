"""What the verbs of the control socket answer: `status` from the facts and the segment, here and in the admin process."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.segment import (
    EXPIRING_DAYS,
    HEARTS,
    INITIAL,
    ORDERS,
    READY,
    REASONS,
    STATES,
    TLS_VERSIONS,
    UNHEALTHY,
    VERDICTS,
    Block,
    ListenerCounters,
    Segment,
)
from nlbcore.termination import WORDS

if TYPE_CHECKING:
    from nlbcore.control.server import Pending, Reply

Answer = dict[str, Any]
SILENT = 3000
"""Age of an attendant's heart beat, in ms, from which it counts as silent."""
_YEAR_9999 = 253402300799


def by_verb(
    handlers: Mapping[str, Callable[[Answer], Answer | Reply | Pending | None]],
) -> Callable[[str, Answer], Answer | Reply | Pending | None]:
    """The server's `answer` from a table of verbs."""

    def answer(verb: str, arguments: Answer) -> Answer | Reply | Pending | None:
        if verb not in handlers:
            raise NlbError(f'this balancer does not know "{verb[:40]}"; it knows {", ".join(handlers)}')
        try:
            return handlers[verb](arguments)
        except OSError as error:  # no descriptor, no memory: one question is not answered, and that is all
            raise NlbError(f"{verb}: {(error.strerror or str(error)).lower()}") from None

    return answer


def status(facts: Answer, segment: Segment) -> Answer:
    """Everything that can be seen at a glance, as JSON: lists in the order of the configuration, moments in UTC.

    `connections` are those of now, `connections_total` all since the start; bytes are of the clients, decrypted.

    Args:
        facts: what the supervisor has published (`nlbcore.facts`)
        segment: the counters, the verdicts and the orders
    """
    blocks = [segment.block(slot) for slot in range(segment.used)]
    listeners = [_listener(blocks, listener) for listener in facts["listeners"]]
    now = time.time()
    reload = facts["reload"]
    return {
        **{key: facts[key] for key in ("node", "version", "pid", "generation", "generations", "state", "admin")},
        "started": _moment(facts["started"]),
        "uptime_s": round(now - facts["started"], 3),
        "reload": reload and {**reload, "time": _moment(reload["time"])},
        "reloads": {key: facts["reloads"][key] for key in ("successful", "failed")},
        "connections": sum(  # with those of listeners that were taken out and drain
            block.listeners[int(row)].live for block in blocks for row in facts["names"]["listeners"]
        ),
        "listeners": listeners,
        "server_groups": [_group(segment, blocks, group) for group in facts["server_groups"]],
        "certificates": [
            {**one, "not_after": _moment(one["not_after"]), "days_left": _days(one["not_after"], now)}
            for one in facts["certificates"]
        ],
        "crls": [
            {
                **one,
                "next_update": one["next_update"] and _moment(one["next_update"]),
                "days_left": one["next_update"] and _days(one["next_update"], now),
            }
            for one in facts["crls"]
        ],
        "workers": [_worker(facts, segment, worker) for worker in facts["workers"]],
        "attendants": [_attendant(segment, attendant) for attendant in facts["attendants"]],
    }


def _listener(blocks: list[Block], listener: Answer) -> Answer:
    rows = [block.listeners[listener["row"]] for block in blocks]
    handshakes = {
        version: {"full": full, "resumed": resumed}
        for number, version in enumerate(TLS_VERSIONS)
        if (full := sum(row.handshakes[number][0] for row in rows))
        + (resumed := sum(row.handshakes[number][1] for row in rows))
    }
    terminations = {
        word: count for number, word in enumerate(WORDS) if (count := sum(row.terminations[number] for row in rows))
    }
    return {
        **{
            key: listener[key] for key in ("name", "bind", "protocol", "server_group", "client_auth", "max_connections")
        },
        "connections": sum(row.live for row in rows),
        "connections_total": sum(row.connections for row in rows),
        "received_bytes": sum(row.received for row in rows),
        "sent_bytes": sum(row.sent for row in rows),
        "handshakes": handshakes,
        "terminations": terminations,
        **({"expiring": _expiring(rows)} if listener["client_auth"] != "off" else {}),
        **({"verdicts": _verdicts(rows)} if listener["client_auth"] == "report" else {}),
    }


def _expiring(rows: Sequence[ListenerCounters]) -> dict[str, int]:
    """Client certificates of live connections that end within so many days."""
    return {f"{days}d": sum(row.expiring[number] for row in rows) for number, days in enumerate(EXPIRING_DAYS)}


def _verdicts(rows: Sequence[ListenerCounters]) -> dict[str, int]:
    """What would have become of the clients that `report` has let in."""
    return {word: count for word, number in VERDICTS.items() if (count := sum(row.verdicts[number] for row in rows))}


def _group(segment: Segment, blocks: list[Block], group: Answer) -> Answer:
    """`usable` counts the servers that get new connections by right; `fail_open`: none does, since they have failed their
    checks, so all get them.
    """
    servers = [_server(segment, blocks, server) for server in group["servers"]]
    wanted = [
        segment.verdicts[row["row"]]
        for row, server in zip(group["servers"], servers, strict=True)
        if server["weight"] > 0 and server["state"] != "Draining"
    ]
    usable = [one for one in wanted if one.state != UNHEALTHY and not (one.state == INITIAL and one.waits)]
    return {
        "name": group["name"],
        "scheduler": group["scheduler"],
        "health_check": group["health_check"],
        "usable": len(usable),
        "fail_open": not usable and any(one.state == UNHEALTHY for one in wanted),
        "servers": servers,
    }


def _server(segment: Segment, blocks: list[Block], server: Answer) -> Answer:
    number = server["row"]
    rows = [block.servers[number] for block in blocks]
    verdict = segment.verdicts[number]
    order = segment.shared.orders[number]
    draining = order.state != READY
    return {
        "name": server["name"],
        "address": server["address"],
        "weight": order.weight_and_one - 1 if order.weight_and_one else server["configured_weight"],
        "configured_weight": server["configured_weight"],
        "admin": _word(ORDERS, order.state),
        "state": "Draining" if draining else _word(STATES, verdict.state),
        "reason": _word(REASONS, verdict.reason) if verdict.state == UNHEALTHY and not draining else "",
        "since": _moment(verdict.since_ms / 1000) if verdict.since_ms else None,
        "connections": sum(row.live for row in rows),
        "connections_total": sum(row.connections for row in rows),
        "connect_failed": sum(row.connect_failed for row in rows),
        "connect_timeout": sum(row.connect_timeout for row in rows),
    }


def _worker(facts: Answer, segment: Segment, worker: Answer) -> Answer:
    block = segment.block(worker["slot"])
    age = time.monotonic_ns() // 1_000_000 - int(block.heartbeat)
    rows = [int(row) for row in facts["names"]["listeners"]]
    return {
        **worker,
        "since": _moment(worker["since"]),
        "connections": sum(block.listeners[row].live for row in rows),
        "connections_total": sum(block.listeners[row].connections for row in rows),
        "heartbeat_age_ms": max(0, age) if block.heartbeat else None,
        "longest_stall_ms": block.stall_us / 1000,
    }


def _attendant(segment: Segment, attendant: Answer) -> Answer:
    """One that runs and whose heart does not beat is `silent`."""
    age = time.monotonic_ns() // 1_000_000 - int(segment.shared.hearts[HEARTS.index(attendant["name"])])
    silent = attendant["state"] == "running" and age > SILENT
    return {**attendant, "state": "silent" if silent else attendant["state"]}


def _word(words: tuple[str, ...], number: int) -> str:
    """The prober, which talks to the network, writes the numbers: they are not taken on trust."""
    return words[number] if number < len(words) else f"unknown ({number})"


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(min(seconds, _YEAR_9999), datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _days(moment: float, now: float) -> float:
    """To two digits; what is over is below zero, however little."""
    days = round((moment - now) / 86400, 2)
    return min(days, -0.01) if moment <= now else days
