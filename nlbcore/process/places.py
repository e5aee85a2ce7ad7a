"""The rows of the segment that the supervisor writes: the operator's orders for servers, and what a generation leaves.

A listener or a server that a reload takes out is drained: its row stays while a worker needs it, and when the time to drain
is over the workers cut what is left. What comes back before that is as before.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.segment import DRAIN, MAINT, ORDERS, READY, GroupCounters, ListenerCounters, ServerCounters

if TYPE_CHECKING:
    from nlbcore.config.model import Config, ServerGroup
    from nlbcore.process.snapshot import Rows, Snapshot
    from nlbcore.segment import Segment

WEIGHT = 100
"""The largest one."""


class Places:
    """Orders and rows.

    Args:
        segment: where they are
        first: the generation that the balancer starts with
    """

    def __init__(self, segment: Segment, first: Snapshot) -> None:
        self._segment = segment
        self._used_listeners = set(first.rows.listeners.values())
        self._used_groups = set(first.rows.groups.values())
        self._used_servers = set(first.rows.servers.values())
        self._taken_out: dict[int, int] = {}
        """Rows of servers that are drained because a reload has removed them; what the operator's order was before."""

    # -- a reload -------------------------------------------------------------------------------------------------------

    def prepare(self, new: Rows, living: list[Rows]) -> None:
        """Clean the rows that nobody has now and the new generation gets."""
        listeners = {row for rows in living for row in rows.listeners.values()}
        groups = {row for rows in living for row in rows.groups.values()}
        servers = {row for rows in living for row in rows.servers.values()}
        for row in set(new.groups.values()) - groups:
            if row in self._used_groups:
                self._erase("groups", row, GroupCounters)
            self._used_groups.add(row)
        for row in set(new.listeners.values()) - listeners:
            if row in self._used_listeners:
                self._erase("listeners", row, ListenerCounters)
                self._segment.shared.cps_due[row] = 0
            self._used_listeners.add(row)
        for row in set(new.servers.values()) - servers:
            if row in self._used_servers:
                self._erase_server(row)
            self._used_servers.add(row)
            verdict = self._segment.verdicts[row]
            verdict.since_ms = time.time_ns() // 1_000_000
            verdict.reason = verdict.state = 0
            verdict.waits = 1

    def enforce(self, old: Snapshot, new: Snapshot) -> None:
        """The new generation is in force: drain what is in it no more, take back what has come again."""
        now = _now()
        shared = self._segment.shared
        for name, row in old.rows.listeners.items():
            if name not in new.rows.listeners:
                shared.listener_cut_ms[row] = now + round(old.config.node.drain_timeout * 1000) + 1
        for row in new.rows.listeners.values():
            shared.listener_cut_ms[row] = 0
        for (group, _), row in ((key, row) for key, row in old.rows.servers.items() if key not in new.rows.servers):
            self._taken_out[row] = shared.orders[row].state
            self._order(row, DRAIN, _cut(old.config.server_groups[group], now))
        for key, row in new.rows.servers.items():
            if row in self._taken_out:
                before = self._taken_out.pop(row)
                self._order(row, before, 0 if before == READY else _cut(new.config.server_groups[key[0]], now))
        for key, row in new.rows.servers.items():
            if key in old.rows.servers and _weight(old.config, key) != _weight(new.config, key):
                shared.orders[row].weight_and_one = 0

    def _erase(self, kind: str, row: int, counters: type[ctypes.Structure]) -> None:
        for slot in range(self._segment.used):
            place = getattr(self._segment.block(slot), kind)[row]
            ctypes.memset(ctypes.addressof(place), 0, ctypes.sizeof(counters))

    def _erase_server(self, row: int) -> None:
        self._erase("servers", row, ServerCounters)
        self._taken_out.pop(row, None)
        self._order(row, READY, 0)
        self._segment.shared.orders[row].weight_and_one = 0

    def _order(self, row: int, state: int, cut: int) -> None:
        order = self._segment.shared.orders[row]
        order.cut_ms = cut
        order.state = state

    # -- the operator ---------------------------------------------------------------------------------------------------

    def obey(self, snapshot: Snapshot, arguments: dict[str, Any]) -> dict[str, Any]:
        """The control socket's `server`: drain, maint, ready, weight.

        Raises:
            NlbError: no such server, or no such order
        """
        group, server, do = (str(arguments.get(key, "")) for key in ("server_group", "server", "do"))
        if group not in snapshot.config.server_groups:
            known = ", ".join(snapshot.config.server_groups) or "none"
            raise NlbError(f'there is no server group "{group}"; there are: {known}')
        if (group, server) not in snapshot.rows.servers:
            known = ", ".join(one.name for one in snapshot.config.server_groups[group].servers) or "none"
            raise NlbError(f'there is no server "{server}" in {group}; there are: {known}')
        row = snapshot.rows.servers[group, server]
        order = self._segment.shared.orders[row]
        if do == "weight":
            weight = arguments.get("weight")
            if type(weight) is not int or not 0 <= weight <= WEIGHT:
                raise NlbError(f"a weight is a number from 0 to {WEIGHT}")
            order.weight_and_one = weight + 1
        elif do in ORDERS:
            state = ORDERS.index(do)
            now = _now()
            cuts = {READY: 0, DRAIN: _cut(snapshot.config.server_groups[group], now), MAINT: now}
            self._order(row, state, cuts[state])
        else:
            raise NlbError(f'"{do}" is no order for a server; there are: {", ".join(ORDERS)}, weight')
        blocks = (self._segment.block(slot) for slot in range(self._segment.used))
        return {
            "server_group": group,
            "server": server,
            "admin": ORDERS[order.state],
            "weight": order.weight_and_one - 1 if order.weight_and_one else _weight(snapshot.config, (group, server)),
            "connections": sum(block.servers[row].live for block in blocks),
        }


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def _cut(group: ServerGroup, now: int) -> int:
    """When the connections to a server that is drained are cut; 0: never."""
    return now + round(group.connection_drain_timeout * 1000) + 1 if group.connection_drain else 0


def _weight(config: Config, key: tuple[str, str]) -> int:
    return next(server.weight for server in config.server_groups[key[0]].servers if server.name == key[1])
