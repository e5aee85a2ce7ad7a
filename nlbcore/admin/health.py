"""Whether the balancer lives (`/healthz`) and whether clients should be sent to it (`/readyz`), with what is wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.observe.metrics import AWAY, beats, healthy, wanted

if TYPE_CHECKING:
    from nlbcore.facts import Facts
    from nlbcore.segment import Segment


class NoSuchGroupError(NlbError):
    """The configuration has no such server group."""


def alive(facts: Facts, segment: Segment) -> list[str]:
    """What is wrong with the processes that carry traffic: supervisor and workers must answer."""
    wrong = []
    if not beats(facts.heartbeat):
        wrong.append(f"the supervisor {_silence(facts.heartbeat)}")
    for worker in facts.read().get("workers", ()):
        heart = segment.block(worker["slot"]).heartbeat
        if worker["state"] == "stuck" or (worker["state"] not in AWAY and not beats(heart)):
            wrong.append(f"worker {worker['slot']} ({worker['state']}) {_silence(heart)}")
    return wrong


def ready(facts: Facts, segment: Segment, group: str | None = None) -> list[str]:
    """Why no clients should be sent here. A slot whose worker is down is served by its siblings, so one worker that runs
    is enough to serve all.

    Args:
        facts: what the supervisor has published
        segment: heart beats and verdicts
        group: must have a server that can be used

    Raises:
        NoSuchGroupError: there is none of this name
    """
    known = facts.read()
    state = known.get("state", "starting")
    wrong = [] if state == "running" else [f"the balancer is {state}"]
    if not known.get("generation"):
        wrong.append("no configuration is in force yet")
    serving = (
        worker["state"] == "running" and beats(segment.block(worker["slot"]).heartbeat)
        for worker in known.get("workers", ())
    )
    if not any(serving):
        wrong.append("no worker is running")
    if group is not None:
        servers = _servers(known, group)
        if not any(wanted(segment, server) and healthy(segment, server) for server in servers):
            wrong.append(f"server group {group} has no usable server")
    return wrong


def _servers(known: dict[str, Any], group: str) -> list[dict[str, Any]]:
    for one in known.get("server_groups", ()):
        if one["name"] == group:
            servers: list[dict[str, Any]] = one["servers"]
            return servers
    raise NoSuchGroupError(f'no server group "{group[:80]}"')


def _silence(heart: int) -> str:
    if not heart:
        return "has not answered yet"
    return f"has not answered for {time.monotonic() - heart / 1000:.1f} s"
