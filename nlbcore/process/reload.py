"""A reload: from the order to the answer. One path, whoever gives it: SIGHUP, `nlb reload`, the watcher.

    check     the checker reads and judges everything, and seals generation N + 1          (process/checker)
    prepare   new addresses are bound, new logs opened, every worker makes it ready        (process/rollout)
    commit    every worker swaps; live connections are looked at; then the attendants are told
    refused   at any point before: what was prepared is dropped, generation N stays, and the answer says why

Orders that come while one is on its way are one more reload after it.
"""

from __future__ import annotations

import os
import selectors
import time
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nlbcore.config.diff import as_started, diff, needs_restart
from nlbcore.errors import StartError
from nlbcore.process.checker import Checker
from nlbcore.process.limits import count_sockets
from nlbcore.process.logs import discard
from nlbcore.process.rollout import Outcome, Rollout
from nlbcore.process.snapshot import Limits, Snapshot
from nlbcore.process.sockets import Address
from nlbcore.tls.changes import changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nlbcore.config.finding import Finding
    from nlbcore.control.server import Pending
    from nlbcore.process.checker import Checked
    from nlbcore.process.fleet import Fleet
    from nlbcore.process.logs import Logs
    from nlbcore.process.places import Places

CHECK_TIMEOUT = 120.0
"""Seconds that the checker may take: folders of certificates may lie on a network."""
SETTLE_TIMEOUT = 30.0
"""Seconds to wait for workers that are on their way up."""


@dataclass
class Result:
    """What the answer says.

    Attributes:
        successful: whether the generation that was asked for is in force
        generation: the one that is
        trigger: who asked: "signal", "command" or "watch"
        changes: what is different from before
        needs_restart: what is different in the file and is not in force
        closed: live connections that were closed because they would be refused now
        findings: of the checker
        reason: why it was refused
        seconds: how long it took
        time: when, Unix seconds
    """

    successful: bool
    generation: int
    trigger: str
    changes: list[str] = field(default_factory=list)
    needs_restart: list[str] = field(default_factory=list)
    closed: int = 0
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    time: float = 0.0

    def answer(self) -> dict[str, Any]:
        """For the control socket."""
        return {
            "successful": self.successful,
            "generation": self.generation,
            "changes": self.changes,
            "needs_restart": self.needs_restart,
            "closed": self.closed,
            "findings": [
                {
                    "file": one.file,
                    "line": one.line,
                    "column": one.column,
                    "severity": one.severity,
                    "key": one.key,
                    "message": one.message,
                    "hint": one.hint,
                }
                for one in self.findings
            ],
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
        }

    def fact(self) -> dict[str, Any]:
        """For everybody."""
        return {
            "time": self.time,
            "successful": self.successful,
            "generation": self.generation,
            "trigger": self.trigger,
            "changes": self.changes[:100],
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Means:
    """What a reload works with; see the supervisor.

    Attributes:
        path: the configuration
        limits: how many rows there are
        fleet: the workers
        logs: both
        places: rows of the segment
        selector: of the main loop
        decided: called when the new generation comes into force, before a worker is told
        enforced: called when all workers serve the new generation, with the Unix time when its files were read
    """

    path: Path
    limits: Limits
    fleet: Fleet
    logs: Logs
    places: Places
    selector: selectors.BaseSelector
    decided: Callable[[], None]
    enforced: Callable[[float], None]


class Reload:
    """One reload, on its way.

    Args:
        means: what it works with
        trigger: who asked
        waiting: who waits for the answer
        finished: called at the end
    """

    def __init__(self, means: Means, trigger: str, waiting: list[Pending], finished: Callable[[Result], None]) -> None:
        self.trigger = trigger
        self.waiting = waiting
        self._means = means
        self._finished = finished
        self._read_at = time.time()
        self._began = time.monotonic()
        self._until = self._began + CHECK_TIMEOUT
        self._checker: Checker | None = None
        self._checked: Checked | None = None
        self._snapshot: Snapshot | None = None
        self._added: dict[str, Address] = {}
        self._logs: tuple[int, int] = (-1, -1)
        self._result = Result(False, means.fleet.snapshot.generation, trigger)

    @property
    def pid(self) -> int:
        """Of the checker, while there is one."""
        return self._checker.pid if self._checker is not None else 0

    def begin(self) -> None:
        """Start the checker."""
        fleet = self._means.fleet
        living = [fleet.rows[generation] for generation in sorted(fleet.rows)]
        try:
            self._checker = Checker(self._means.path, fleet.numbered, self._means.limits, living)
        except StartError as error:
            self._refuse(str(error))
            return
        fleet.numbered += 1
        self._means.selector.register(self._checker, selectors.EVENT_READ, lambda _mask: self._on_checker())

    def _on_checker(self) -> None:
        assert self._checker is not None
        try:
            checked = self._checker.read()
        except StartError as error:
            self._end_checker()
            self._refuse(str(error))
            return
        if checked is None:
            return
        self._end_checker()
        self._result.findings = checked.findings
        if checked.sealed is None:
            errors = [finding for finding in checked.findings if finding.severity == "error"]
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            self._refuse(f"{': '.join(filter(None, (errors[0].key, errors[0].message)))}{more}")
            return
        self._checked = checked
        try:
            self._compare(Snapshot.unseal(checked.sealed), checked.sealed)
        except Exception as error:  # noqa: BLE001 - whatever it is: a reload that goes wrong must not end the balancer
            traceback.print_exc()
            self._refuse(f"nlb's own fault: {type(error).__name__}: {error}")

    def _end_checker(self) -> None:
        if self._checker is not None:
            self._means.selector.unregister(self._checker)
            self._checker.kill()
            self._checker = None

    def _compare(self, new: Snapshot, sealed: int) -> None:
        old = self._means.fleet.snapshot
        self._result.needs_restart = needs_restart(old.config, new.config)
        new = replace(new, config=as_started(old.config, new.config))
        self._result.changes = [*diff(old.config, new.config), *changes(old.material, new.material)]
        if new.config == old.config and new.material == old.material:
            os.close(sealed)
            self._checked = None
            self._finish(successful=True)
            return
        self._snapshot = new
        self._until = time.monotonic() + SETTLE_TIMEOUT

    def tick(self, now: float) -> None:
        """Go on when the workers are settled; do not wait for ever."""
        fleet = self._means.fleet
        if self._snapshot is not None and fleet.settled:
            self._prepare(self._snapshot)
        elif now >= self._until and fleet.rollout is None:
            if self._checker is not None:
                self._end_checker()
                self._refuse(f"the checker has not finished within {CHECK_TIMEOUT:g} s")
            else:
                self._refuse(f"a worker has not come up within {SETTLE_TIMEOUT:g} s")

    def _prepare(self, new: Snapshot) -> None:
        fleet = self._means.fleet
        assert self._checked is not None
        assert self._checked.sealed is not None
        try:
            self._bind(new)
            self._logs = self._means.logs.prepare(new.config.log)
        except StartError as error:
            self._refuse(str(error))
            return
        self._means.places.prepare(new.rows, list(fleet.rows.values()))
        serving = [slot for slot in fleet.slots if slot.serves]
        fleet.rollout = Rollout(new, self._checked.sealed, self._added, self._decided, self._on_outcome, fleet.kill_one)
        fleet.rollout.begin(serving)

    def _bind(self, new: Snapshot) -> None:
        """The addresses that are not there yet."""
        fleet = self._means.fleet
        wanted = {str(endpoint): endpoint for listener in new.config.listeners.values() for endpoint in listener.bind}
        count_sockets(new.config, len(fleet.slots))
        for name, endpoint in wanted.items():
            if name not in fleet.addresses:
                self._added[name] = Address.bind(endpoint, len(fleet.slots))

    def _decided(self) -> None:
        """It is in force."""
        fleet, new = self._means.fleet, self._snapshot
        assert new is not None
        assert self._checked is not None
        assert self._checked.sealed is not None
        old, old_sealed = fleet.snapshot, fleet.sealed
        for address in self._added.values():
            try:
                address.listen()
            except StartError as error:
                self._means.logs.events.event("error", "address_not_served", error=str(error))
        fleet.addresses.update(self._added)
        fleet.enforce(new, self._checked.sealed)
        os.close(old_sealed)
        self._means.places.enforce(old, new)
        self._result.generation = new.generation
        self._means.decided()

    def _on_outcome(self, outcome: Outcome) -> None:
        fleet, new = self._means.fleet, self._snapshot
        fleet.rollout = None
        if outcome.reason or new is None:
            self._refuse(outcome.reason)
            return
        self._result.closed = outcome.closed
        wanted = {str(endpoint) for listener in new.config.listeners.values() for endpoint in listener.bind}
        for name in fleet.addresses.keys() - wanted:
            fleet.addresses.pop(name).close()
        self._means.logs.change(new.config.log, self._logs)
        self._means.enforced(self._read_at)
        self._finish(successful=True)

    def stop(self) -> None:
        """The balancer stops: nothing comes into force any more."""
        if self._means.fleet.rollout is None:
            self._end_checker()
            self._refuse("the balancer stops")

    def _refuse(self, reason: str) -> None:
        for address in self._added.values():
            address.close()
        discard(self._logs)
        if self._checked is not None and self._checked.sealed is not None:
            os.close(self._checked.sealed)
        self._snapshot = None
        self._result.reason = reason
        self._result.changes, self._result.needs_restart = [], []
        self._finish(successful=False)

    def _finish(self, *, successful: bool) -> None:
        self._result.successful = successful
        self._result.seconds = time.monotonic() - self._began
        self._result.time = time.time()
        for pending in self.waiting:
            pending.resolve(self._result.answer())
        self._finished(self._result)
