"""All reloads of a balancer, one after the other: what is asked for while one is on its way is one more after it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.process.reload import Means, Reload

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlbcore.config.finding import Finding
    from nlbcore.control.server import Pending
    from nlbcore.observe.log import EventLog
    from nlbcore.process.reload import Result


class Reloads:
    """Begins them, and tells how they went.

    Args:
        means: what each works with; its `finished` is ours
        events: the event log
        may_begin: whether one may begin now; else it waits for `go_on()`
        begun: called when one begins
        told: called when one has ended, whatever came of it
    """

    def __init__(
        self,
        means: Means,
        events: EventLog,
        may_begin: Callable[[], bool],
        begun: Callable[[], None],
        told: Callable[[], None],
    ) -> None:
        self.current: Reload | None = None
        self.last: dict[str, Any] | None = None
        self.count: dict[str, Any] = {"successful": 0, "failed": 0, "last_successful": 0}
        self._means = means
        self._events = events
        self._may_begin = may_begin
        self._begun = begun
        self._told = told
        self._asked: str = ""
        self._waiting: list[Pending] = []
        self._refusal = ""

    @property
    def pids(self) -> set[int]:
        return {self.current.pid} if self.current is not None and self.current.pid else set()

    def ask(self, trigger: str, pending: Pending | None = None) -> None:
        """Reload: now, or after what is on its way.

        Args:
            trigger: who asks: "signal", "command" or "watch"
            pending: who waits for the answer
        """
        if self._refusal:
            if pending is not None:
                pending.fail(NlbError(self._refusal))
            return
        self._asked = self._asked or trigger
        if pending is not None:
            self._waiting.append(pending)
        self.go_on()

    def go_on(self) -> None:
        """With what was asked for, if nothing is in the way."""
        if not self._asked or self.current is not None or not self._may_begin():
            return
        trigger, self._asked = self._asked, ""
        waiting, self._waiting = self._waiting, []
        self._begun()
        self.current = Reload(self._means, trigger, waiting, self._on_finished)
        self.current.begin()

    def tick(self, now: float) -> None:
        if self.current is not None:
            self.current.tick(now)

    def stop(self, reason: str) -> None:
        """No more, for this reason; what is not in force yet never will be."""
        self._refusal = reason
        self._asked = ""
        if self.current is not None:
            self.current.stop()
        while self._waiting:
            self._waiting.pop().fail(NlbError(reason))

    def _on_finished(self, result: Result) -> None:
        self.current = None
        self.count["successful" if result.successful else "failed"] += 1
        self.last = result.fact()
        if result.successful:
            self.count["last_successful"] = result.time
            self._tell_success(result)
        else:
            for finding in result.findings:
                if finding.severity == "error":
                    tell(self._events, finding)
            self._events.event(
                "error", "reload_refused", generation=result.generation, trigger=result.trigger, reason=result.reason
            )
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._told()
        self.go_on()

    def _tell_success(self, result: Result) -> None:
        self._events.event(
            "info",
            "reloaded",
            generation=result.generation,
            trigger=result.trigger,
            took=f"{result.seconds:.3f}s",
            closed=result.closed,
            changes=len(result.changes),
        )
        for finding in result.findings:
            tell(self._events, finding)
        for change in result.changes:
            self._events.event("info", "changed", what=change)
        for key in result.needs_restart:
            self._events.event("warning", "needs_restart", what=key)


def tell(events: EventLog, finding: Finding) -> None:
    """A finding as an event."""
    place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
    events.event(finding.severity, "configuration", at=place, key=finding.key, message=finding.message)
