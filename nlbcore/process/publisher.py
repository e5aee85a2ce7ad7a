"""What the supervisor publishes as facts: made once for each generation, and whenever something else has changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nlbcore import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nlbcore.facts import Facts
    from nlbcore.process.attendant import Attendant
    from nlbcore.process.fleet import Fleet
    from nlbcore.process.snapshot import Rows, Snapshot


NAMES = 20
"""Of a certificate that are told."""


class Publisher:
    """Publishes.

    Args:
        facts: where
        pid: of the supervisor
        fleet: the workers
        attendants: the helper processes
        state: "starting", "running" or "draining"
        reloads: the last one, and how many there were
    """

    def __init__(
        self,
        facts: Facts,
        pid: int,
        fleet: Fleet,
        attendants: Mapping[str, Attendant],
        state: Callable[[], str],
        reloads: Callable[[], dict[str, Any]],
    ) -> None:
        self.facts = facts
        self.started = time.time()
        self.current: dict[str, Any] = {}
        self._pid = pid
        self._fleet = fleet
        self._attendants = attendants
        self._state = state
        self._reloads = reloads
        self._static: dict[str, Any] = {}
        self._made_of: tuple[int, tuple[int, ...]] = (0, ())
        self._succeeded = False

    def tick(self) -> None:
        """A sign of life, and what has changed since the last one."""
        self.facts.beat()
        self.publish()

    def succeeded(self) -> None:
        """Another supervisor is the balancer: what was published stays. Whom our admin process still answers for a moment
        has asked about the balancer, and that does not drain.
        """
        self._succeeded = True

    def publish(self) -> None:
        if self._succeeded:
            return
        made_of = (self._fleet.snapshot.generation, tuple(self._fleet.rows))
        if made_of != self._made_of:
            self._static = _of_generation(self._fleet.snapshot, self._fleet.rows)
            self._made_of = made_of
        facts = {**self._static, **self._of_now()}
        if facts != self.current:
            self.current = facts
            try:
                self.facts.publish(facts)
            except (
                ValueError
            ):  # thousands of certificates at hundreds of listeners: the others must not lack all the rest
                self.current = {**facts, "certificates": [], "crls": []}
                self.facts.publish(self.current)

    def _of_now(self) -> dict[str, Any]:
        now, today = time.monotonic(), time.time()
        return {
            "version": __version__,
            "pid": self._pid,
            "started": self.started,
            "state": self._state(),
            "generations": self._fleet.generations,
            **self._reloads(),
            "workers": [
                {
                    "slot": slot.number,
                    "pid": slot.pid,
                    "state": str(slot.state),
                    "restarts": slot.restarts,
                    "since": round(today - (now - slot.since)),
                }
                for slot in self._fleet.slots
            ],
            "attendants": [
                {"name": one.name, "pid": one.pid, "state": one.state, "restarts": one.restarts}
                for one in self._attendants.values()
            ],
        }


def _of_generation(snapshot: Snapshot, living: Mapping[int, Rows]) -> dict[str, Any]:
    config, rows = snapshot.config, snapshot.rows
    material = snapshot.material.listeners
    return {
        "node": config.node.name,
        "generation": snapshot.generation,
        "admin": config.node.admin and str(config.node.admin),
        "control_socket": str(config.node.control_socket),
        "names": _names([*living.values(), rows]),
        "listeners": [
            {
                "name": name,
                "row": rows.listeners[name],
                "bind": [str(endpoint) for endpoint in listener.bind],
                "protocol": listener.protocol,
                "server_group": listener.server_group,
                "client_auth": listener.client_auth.mode,
                "max_connections": listener.max_connections,
            }
            for name, listener in config.listeners.items()
        ],
        "server_groups": [
            {
                "name": name,
                "row": rows.groups[name],
                "scheduler": group.scheduler,
                "health_check": group.health_check.enabled,
                "servers": [
                    {
                        "name": server.name,
                        "row": rows.servers[name, server.name],
                        "address": str(server.address),
                        "configured_weight": server.weight,
                    }
                    for server in group.servers
                ],
            }
            for name, group in config.server_groups.items()
        ],
        "certificates": [
            {
                "listener": name,
                "path": str(one.path),
                "names": list(one.names[:NAMES]),
                "not_after": one.not_after.timestamp(),
            }
            for name, parts in material.items()
            for one in parts.certificates
        ],
        "crls": [
            {
                "listener": name,
                "issuer": one.issuer,
                "next_update": one.next_update and one.next_update.timestamp(),
            }
            for name, parts in material.items()
            for one in parts.lists
        ],
    }


def _names(living: list[Rows]) -> dict[str, dict[str, str]]:
    """Behind the rows of all generations that somebody needs; the newest one names last."""
    return {
        "listeners": {str(row): name for rows in living for name, row in rows.listeners.items()},
        "groups": {str(row): name for rows in living for name, row in rows.groups.items()},
        "servers": {str(row): server for rows in living for (_, server), row in rows.servers.items()},
    }
