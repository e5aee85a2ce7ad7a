"""What expires: warnings before server certificates and revocation lists do, each of them once.

    certificate_expires    at 30 (info), 14, 7 (warning) and 1 (error) days before its end; certificate_expired then
    crl_expires            a day before its next update (warning); crl_overdue after it (error)

Told what is in force at the start and after each reload, asked now and then with the wall clock. What has come to a
threshold already when it comes into force is told once, at the nearest; what a reload leaves as it is, never again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlbcore.observe.log import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Event = tuple[str, str, dict[str, object]]

DAY = 86400
STEPS = {
    "certificate": ((30, "info"), (14, "warning"), (7, "warning"), (1, "error")),
    "crl": ((1, "warning"),),
}
"""By kind: days before the end, with the level of the event; the nearest last."""


@dataclass(frozen=True)
class _Term:
    """One thing that ends: its kind, the listener, its path or issuer, and when."""

    kind: str
    listener: str
    name: str
    end: float

    def stage(self, now: float) -> int:
        """Thresholds passed, the end among them."""
        return sum(self.end - now <= days * DAY for days, _ in STEPS[self.kind]) + (now > self.end)

    def event(self, now: float, stage: int) -> Event:
        """What is to be said of it at that stage."""
        own, end, over = (
            ("path", "not_after", "certificate_expired")
            if self.kind == "certificate"
            else ("issuer", "next_update", "crl_overdue")
        )
        fields: dict[str, object] = {"listener": self.listener, own: self.name}
        steps = STEPS[self.kind]
        if stage > len(steps):
            return "error", over, {**fields, end: timestamp(self.end)}
        fields["days_left"] = math.floor((self.end - now) / DAY)
        return steps[stage - 1][1], f"{self.kind}_expires", {**fields, end: timestamp(self.end)}


class Expiry:
    """Remembers what it has said."""

    def __init__(self) -> None:
        self._said: dict[_Term, int] = {}

    def watch(self, certificates: Iterable[Mapping[str, Any]], crls: Iterable[Mapping[str, Any]]) -> None:
        """What is in force from now on.

        Args:
            certificates: of each `listener`, `path` and `not_after` (Unix seconds)
            crls: of each `listener`, `issuer` and `next_update` (Unix seconds; None for never)
        """
        terms = [_Term("certificate", one["listener"], one["path"], one["not_after"]) for one in certificates]
        terms += [
            _Term("crl", one["listener"], one["issuer"], one["next_update"])
            for one in crls
            if one["next_update"] is not None
        ]
        self._said = {term: self._said.get(term, 0) for term in terms}

    def due(self, now: float) -> list[Event]:
        """What is to be said now: level, event, fields; `now` is Unix seconds. A clock that is set back says nothing again."""
        events = []
        for term, said in self._said.items():
            stage = term.stage(now)
            if stage > said:
                self._said[term] = stage
                events.append(term.event(now, stage))
        return events
