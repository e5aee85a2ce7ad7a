"""A rollout: one new generation brought to all workers, in two phases; all of them serve it, or none.

    PREPARE n ->  every worker makes it ready beside its work
              <-  READY n | REFUSED n
    COMMIT n  ->  every worker swaps; it cannot fail
              <-  DONE n, when live connections have been looked at too
    ABORT n   ->  one has refused it, or has not answered in time

A worker that dies before the decision is neither yes nor no; its slot is not started again until the decision (the fleet
holds restarts), and then on the generation that has won. But a generation that not one worker has been able to make ready
does not win. A worker that has not answered is killed when it does that a second time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlbcore.process.channel import ANY, DESCRIPTORS, Message
from nlbcore.process.slot import State, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nlbcore.process.slot import Slot
    from nlbcore.process.snapshot import Snapshot
    from nlbcore.process.sockets import Address

PREPARE_TIMEOUT = 30.0
"""Seconds until a worker that has not answered PREPARE is taken for a no."""
COMMIT_TIMEOUT = 30.0
"""Seconds until a worker that has not answered COMMIT is killed: it must not serve the old generation."""


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        reason: why it was refused; empty: it is in force
        closed: live connections that were closed because they would be refused now
    """

    reason: str = ""
    closed: int = 0


class Rollout:
    """One such.

    Args:
        snapshot: the generation
        sealed: the same as a memfd
        added: addresses that it needs and its predecessor has not; bound, not listening
        decided: called when it comes into force, before a worker is told
        finished: called at the end
        kill: kills a worker
    """

    def __init__(
        self,
        snapshot: Snapshot,
        sealed: int,
        added: Mapping[str, Address],
        decided: Callable[[], None],
        finished: Callable[[Outcome], None],
        kill: Callable[[Slot], None],
    ) -> None:
        self.snapshot = snapshot
        self.generation = snapshot.generation
        self.sealed = sealed
        self.added = added
        self.committing = False
        self.over = False
        self._decided = decided
        self._finished = finished
        self._kill = kill
        self._waiting: dict[int, Slot] = {}
        self._ready: dict[int, Slot] = {}
        self._closed = 0
        self._until = time.monotonic() + PREPARE_TIMEOUT

    def begin(self, slots: list[Slot]) -> None:
        """Ask the workers in these slots; without any it is in force at once."""
        self._waiting = {slot.number: slot for slot in slots}
        for slot in slots:
            if slot.state is not State.RETIRING:  # it accepts no more, and would keep them open
                for message in handed_over(self.added):
                    slot.send(message)
            slot.ask(Step.PREPARE, self.generation)
            slot.send(Message("PREPARE", self.generation, fds=(self.sealed,)))
        if not slots:
            self._commit()

    def ready(self, slot: Slot) -> None:
        self._ready[slot.number] = slot
        slot.silences = 0
        self._answered(slot)

    def done(self, slot: Slot, closed: int) -> None:
        self._closed += closed
        self._answered(slot)

    def refused(self, slot: Slot, reason: str) -> None:
        """It stays with the old generation, and so do all."""
        self.abort(f"worker {slot.number} refuses it: {reason}")

    def gone(self, slot: Slot) -> None:
        """Its worker has died."""
        self._ready.pop(slot.number, None)
        if slot.number in self._waiting:
            self._answered(slot)

    def _answered(self, slot: Slot) -> None:
        self._waiting.pop(slot.number, None)
        if self._waiting or self.over:
            return
        if self.committing:
            self._end(Outcome(closed=self._closed))
        elif self._ready:
            self._commit()
        else:
            self.abort("every worker has died of it")

    def _commit(self) -> None:
        self.committing = True
        self._until = time.monotonic() + COMMIT_TIMEOUT
        self._decided()
        self._waiting = dict(self._ready)
        for slot in self._ready.values():
            slot.ask(Step.COMMIT, self.generation)
            slot.send(Message("COMMIT", self.generation))
        if not self._waiting:
            self._end(Outcome())

    def abort(self, reason: str) -> None:
        """The old generation stays; before the decision only."""
        for slot in (*self._waiting.values(), *self._ready.values()):
            slot.ask(Step.NOTHING, 0)
            slot.send(Message("ABORT", self.generation))
        self._end(Outcome(reason))

    def _end(self, outcome: Outcome) -> None:
        if not self.over:
            self.over = True
            self._finished(outcome)

    def tick(self, now: float) -> None:
        """Do not wait for ever."""
        if self.over or now < self._until:
            return
        silent = list(self._waiting.values())
        if self.committing:
            for slot in silent:
                self._kill(slot)
            self._until = now + COMMIT_TIMEOUT
            return
        for slot in silent:
            slot.silences += 1
            if slot.silences > 1:
                self._kill(slot)
        names = ", ".join(f"worker {slot.number}" for slot in silent)
        self.abort(f"no answer from {names} within {PREPARE_TIMEOUT:g} s")


def handed_over(addresses: Mapping[str, Address], slots: range | None = None) -> Iterator[Message]:
    """The messages that hand sockets to a worker that was forked before they were made; with `slots`, of these only."""
    for name, address in addresses.items():
        numbers = sorted(slot for slot in address.sockets if slots is None or slot in slots)
        for start in range(0, len(numbers), DESCRIPTORS):
            piece = numbers[start : start + DESCRIPTORS]
            assert piece == list(range(piece[0], piece[0] + len(piece))) or piece[0] >= ANY
            yield Message("SOCKETS", text=name, slot=piece[0], fds=tuple(address.sockets[n].fileno() for n in piece))
