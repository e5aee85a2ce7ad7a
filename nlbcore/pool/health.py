"""Whether a server may get connections: what is checked, and the judge over the results. No sockets, no clock.

    Initial ---- first success ----------------------------> Available
    Initial, Available -- unhealthy_threshold failures ----> Unhealthy
    Unhealthy ----------- healthy_threshold successes -----> Available

all in a row. A server that is not checked is Unavailable (Alibaba Cloud NLB's word), and usable. One that waits for its
first verdict (a reload has added it) is Initial and not usable; others that are Initial are. When no server of a group is
usable, all of them get connections: the group fails open.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from nlbcore.address import Endpoint
from nlbcore.proxy_protocol import encode
from nlbcore.segment import AVAILABLE, INITIAL, READY, UNAVAILABLE, UNHEALTHY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlbcore.config.model import Config
    from nlbcore.segment import Segment


@dataclass(frozen=True)
class Check:
    """How one server is checked.

    Attributes:
        row: of the server in the segment
        group: name of its group
        server: its name there
        address: where it listens
        weight: as configured
        enabled: whether it is checked at all
        type: of the check, TCP
        interval: seconds from one check to the next
        connect_timeout: seconds
        healthy_threshold: successes in a row that end Unhealthy
        unhealthy_threshold: failures in a row that make Unhealthy
        port: that is checked instead of the address's, 0 for the same
        proxy_protocol: version of the PROXY header that the server expects, 0 for none
    """

    row: int
    group: str
    server: str
    address: Endpoint
    weight: int
    enabled: bool
    type: str
    interval: float
    connect_timeout: float
    healthy_threshold: int
    unhealthy_threshold: int
    port: int
    proxy_protocol: int = 0

    @property
    def header(self) -> bytes:
        """What a check says first: that it is nobody's connection but ours."""
        return encode(2 if self.proxy_protocol == 2 else 1, local=True) if self.proxy_protocol else b""

    @property
    def target(self) -> Endpoint:
        """Where the check connects to; a UNIX socket has no other port."""
        return replace(self.address, port=self.port) if self.port and self.address.path is None else self.address

    def is_same(self, other: Check) -> bool:
        """Whether it is checked in the same way: its weight makes no difference."""
        return replace(self, weight=other.weight) == other


def checks(config: Config, server_rows: Mapping[tuple[str, str], int]) -> list[Check]:
    """The checks of all servers of a configuration, also of those that are not checked."""
    return [
        Check(
            row=server_rows[name, server.name],
            group=name,
            server=server.name,
            address=server.address,
            weight=server.weight,
            proxy_protocol=0 if group.health_check.port else _proxy_protocol(config, name),
            **dict(group.health_check),
        )
        for name, group in config.server_groups.items()
        for server in group.servers
    ]


def _proxy_protocol(config: Config, group: str) -> int:
    """The version that its servers read, as far as the listeners show it: none if one of them sends none."""
    sent = {listener.proxy_protocol for listener in config.listeners.values() if listener.server_group == group}
    if not sent or "off" in sent:
        return 0
    return 1 if "v1" in sent else 2


def to_json(checks: Iterable[Check]) -> str:
    """Checks as text for another process."""
    return json.dumps([{**asdict(check), "address": str(check.address)} for check in checks])


def from_json(text: str | bytes) -> list[Check]:
    """What `to_json` wrote."""
    return [Check(**{**fields, "address": Endpoint.parse(fields["address"])}) for fields in json.loads(text)]


@dataclass
class Judge:
    """One server's state: an index into the segment's STATES, and the reason of its last failure while Unhealthy."""

    healthy_threshold: int
    unhealthy_threshold: int
    state: int = INITIAL
    reason: str = ""
    successes: int = 0
    failures: int = 0

    @classmethod
    def resume(cls, check: Check, state: int, reason: str) -> Judge:
        """Go on from the verdict that stands, if it was a check's: a restart must not bring dead servers back."""
        judge = cls(check.healthy_threshold, check.unhealthy_threshold)
        if not check.enabled:
            judge.state = UNAVAILABLE
        elif state in (AVAILABLE, UNHEALTHY):
            judge.state, judge.reason = state, reason
        return judge

    def success(self) -> bool:
        """The server answered; whether its state is another one now."""
        self.successes, self.failures = self.successes + 1, 0
        needed = self.healthy_threshold if self.state == UNHEALTHY else 1
        if self.state == AVAILABLE or self.successes < needed:
            return False
        self.state, self.reason = AVAILABLE, ""
        return True

    def failure(self, reason: str) -> bool:
        """The server did not answer; whether its state is another one now."""
        self.successes, self.failures = 0, self.failures + 1
        changed = self.state != UNHEALTHY and self.failures >= self.unhealthy_threshold
        if changed:
            self.state = UNHEALTHY
        if self.state == UNHEALTHY:
            self.reason = reason
        return changed


class Usable:
    """The servers of each group as the schedulers see them, from what stands in the segment.

    Of a server that is in service (of a weight, and not ordered out of it) they ask whether it is usable: not Unhealthy, and
    not waiting for its first verdict.
    """

    def __init__(self, segment: Segment, checks: Iterable[Check]) -> None:
        self._segment = segment
        self._standing: dict[int, tuple[bool, bool]] = {}
        self._usable: Counter[str] = Counter()
        self._unhealthy: Counter[str] = Counter()
        for check in checks:
            self.update(check)

    def update(self, check: Check) -> None:
        """Look at one server anew."""
        before = self._standing.get(check.row, (False, False))
        now = self._standing[check.row] = self._look(check)
        self._usable[check.group] += now[0] - before[0]
        self._unhealthy[check.group] += now[1] - before[1]

    def _look(self, check: Check) -> tuple[bool, bool]:
        """Whether it is usable; whether it is in service and Unhealthy."""
        order, verdict = self._segment.shared.orders[check.row], self._segment.verdicts[check.row]
        weight = order.weight_and_one - 1 if order.weight_and_one else check.weight
        if weight == 0 or order.state != READY:
            return False, False
        unhealthy = verdict.state == UNHEALTHY
        return not unhealthy and not (verdict.state == INITIAL and verdict.waits), unhealthy

    def fails_open(self, group: str) -> bool:
        """Whether connections go to servers that are Unhealthy, since no other one is usable.

        A group whose servers all wait for their first verdict gets them too, but nothing bad is known of it.
        """
        return self._usable[group] == 0 and self._unhealthy[group] > 0

    @property
    def failing_open(self) -> set[str]:
        """All groups that do."""
        return {group for group in self._unhealthy if self.fails_open(group)}
