"""The workers: one for each slot, started, watched, replaced.

Sockets belong to slots, and the supervisor keeps them open; a worker only accepts from them. So when a slot has no worker
that serves it - it has died, or its heart does not beat, or it was taken out - its siblings *adopt* it: they accept from
its sockets too, until it has one that runs. Nobody waits in a queue that nobody reads, and no queue is lost.

Start-up is different in one point: all are prepared before one is told to serve, and the first that cannot ends it. Later a
worker that dies is started again, with back-off; what it left in the segment is repaired when it is reaped. A new
generation is brought to all of them by a `Rollout`.

Long because every move of a slot from state to state is here, and nowhere else.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from nlbcore.errors import NlbError, StartError
from nlbcore.process import worker
from nlbcore.process.attendant import SIGNALS
from nlbcore.process.backoff import ended_by
from nlbcore.process.channel import Channel, ChannelError, Message
from nlbcore.process.errand import Errand
from nlbcore.process.processors import may_poll
from nlbcore.process.rollout import handed_over
from nlbcore.process.slot import Slot, State, Step, become_worker
from nlbcore.segment import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from OpenSSL import SSL

    from nlbcore.observe.log import EventLog
    from nlbcore.process.rollout import Rollout
    from nlbcore.process.snapshot import Rows, Snapshot
    from nlbcore.process.sockets import Address
    from nlbcore.segment import Segment

START_TIMEOUT = 30.0
"""Seconds that a worker may take for its first generation."""
STUCK_AFTER = 1.0
"""Seconds without a heartbeat after which a slot is adopted; the heart beats ten times a second."""
KILL_AFTER = 3.0
"""Seconds without a heartbeat, or after the order to stop, until SIGKILL."""
SETTLED = 60.0
"""Seconds that a worker must have served for its next death to count as the first."""
MESSAGES = 16
"""Of one worker, in one turn of the main loop."""
LONGEST_GAP = 1.0
"""Seconds before a worker is started again when not one is running."""
LATE = 1.0
"""Seconds between two looks after which the supervisor itself has slept (SIGSTOP, a paused machine): it accuses nobody of
a silence that was its own."""
HANDLED = (*SIGNALS, signal.SIGCHLD)
"""What the supervisor has handlers for."""


class Fleet:
    """All slots.

    Args:
        count: of workers at the start
        addresses: the sockets, by address; the supervisor changes it when a generation comes into force
        segment: the shared segment
        eventfd: wakes the log writer
        fronts: the blank front contexts, by row
        events: the event log
        selector: the supervisor's
        retired: slots beside those, without a worker: a predecessor had them, and their sockets have clients
    """

    def __init__(
        self,
        count: int,
        addresses: dict[str, Address],
        segment: Segment,
        eventfd: int,
        fronts: Sequence[SSL.Context],
        events: EventLog,
        selector: selectors.BaseSelector,
        retired: int = 0,
    ) -> None:
        self.slots = [Slot(number) for number in range(count)]
        now = time.monotonic()
        self.slots += [Slot(number, State.RETIRED, since=now) for number in range(count, count + retired)]
        self.addresses = addresses
        self.segment = segment
        self.eventfd = eventfd
        self.fronts = fronts
        self.events = events
        self.selector = selector
        self.failed = False
        """Whether a worker ended with an error while the balancer was stopping."""
        self.rollout: Rollout | None = None
        self.rows: dict[int, Rows] = {}
        """Of the generations that somebody needs."""
        self.numbered = 2
        """The next generation's number; one that was refused has had its own."""
        self._starting = True
        self._stopping = False
        self._told_to_stop = False
        self._ticked = self._woke = time.monotonic()
        self._handlers = {
            "READY": self._on_ready,
            "REFUSED": self._on_refused,
            "FAILED": self._on_failed,
            "DONE": self._on_done,
            "FREED": self._on_freed,
            "DUMPED": self._on_errand,
            "KILLED": self._on_errand,
            "DRAINED": self._on_drained,
        }

    @property
    def pids(self) -> set[int]:
        return {slot.pid for slot in self.slots if slot.pid}

    @property
    def serving(self) -> bool:
        """Whether all slots have come up: the end of the start."""
        return not self._starting

    @property
    def settled(self) -> bool:
        """Whether no worker is on its way up, so that a new generation can be brought to all."""
        return self.rollout is None and not any(slot.state is State.STARTING for slot in self.slots)

    @property
    def ended(self) -> bool:
        return all(slot.state in (State.ENDED, State.RETIRED) for slot in self.slots)

    @property
    def drained(self) -> bool:
        """Whether nobody accepts any more."""
        return all(slot.drained or slot.state in (State.ENDED, State.RETIRED) for slot in self.slots)

    @property
    def generations(self) -> list[int]:
        """Those that somebody needs."""
        return sorted({self.snapshot.generation}.union(*(slot.living for slot in self.slots)))

    # -- start --------------------------------------------------------------------------------------------------------

    def start(self, snapshot: Snapshot, sealed: int) -> None:
        """Start a worker in every slot.

        Args:
            snapshot: the generation in force
            sealed: the same, as a sealed memfd
        Raises:
            StartError: no process can be made
        """
        self.enforce(snapshot, sealed)
        self.segment.use(len(self.slots))
        for slot in self.slots:
            if slot.state is State.RETIRED:
                continue
            try:
                self._start(slot)
            except OSError as error:
                raise StartError(f"cannot start worker {slot.number}: {error.strerror}") from None

    def enforce(self, snapshot: Snapshot, sealed: int) -> None:
        """From now on workers are started with this generation."""
        self.snapshot = snapshot
        self.sealed = sealed
        self.rows[snapshot.generation] = snapshot.rows

    def _start(self, slot: Slot) -> None:
        polls = may_poll(sum(one.state not in (State.ENDED, State.RETIRED) for one in self.slots))
        ours, theirs = Channel.pair()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            self.selector.register(ours, selectors.EVENT_READ, partial(self._on_channel, slot))
            try:
                pid = os.fork()
            except OSError:
                self.selector.unregister(ours)
                raise
            if pid == 0:
                become_worker(
                    worker.Inheritance(
                        slot=slot.number,
                        channel=theirs,
                        segment=self.segment,
                        eventfd=self.eventfd,
                        sockets={name: address.sockets for name, address in self.addresses.items()},
                        fronts=self.fronts,
                        may_poll=polls,
                    )
                )
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            theirs.close()
        now = time.monotonic()
        slot.pid, slot.channel, slot.begun = pid, ours, True
        slot.drained = False
        slot.kill_at = now + START_TIMEOUT
        slot.enter(State.STARTING, now)
        slot.ask(Step.PREPARE, self.snapshot.generation)
        slot.send(Message("PREPARE", self.snapshot.generation, fds=(self.sealed,)))

    # -- what workers say -------------------------------------------------------------------------------------------------

    def _on_channel(self, slot: Slot, _mask: int) -> None:
        """Hear a worker, but not for ever: who talks without end is heard again in the next turn."""
        if slot.channel is None:
            return
        try:
            for _ in range(MESSAGES):
                message = slot.channel.receive()
                if message is None:
                    break
                if not self._fits(slot, message):
                    raise ChannelError(f"{message.command} out of turn")
                self._handlers[message.command](slot, message)
            else:
                return
        except BlockingIOError:
            return
        except ChannelError as error:
            self.events.event("error", "worker_misbehaves", worker=slot.number, pid=slot.pid, said=str(error))
            self.kill_one(slot)
        self.selector.unregister(slot.channel)  # the end: it is about to be reaped, or it is as good as dead
        give_up = time.monotonic() + KILL_AFTER
        slot.kill_at = min(slot.kill_at, give_up) if slot.kill_at else give_up

    def _fits(self, slot: Slot, message: Message) -> bool:
        """Whether a worker may say this now."""
        command = message.command
        if command == "READY":
            return (slot.step is Step.PREPARE and message.generation == slot.asked) or self._late(slot, message)
        if command == "DONE":
            return slot.step is Step.COMMIT and message.generation == slot.asked
        if command == "REFUSED":
            return slot.state is State.STARTING or slot.step is Step.PREPARE or self._late(slot, message)
        if command == "FREED":
            return message.generation in slot.living
        if command in ("DUMPED", "KILLED"):
            return bool(slot.errands) and slot.errands[0].answer == command
        if command == "DRAINED":
            return self._stopping or slot.state is State.RETIRING
        return message.slot < len(self.slots)  # FAILED

    def _late(self, slot: Slot, message: Message) -> bool:
        """Its answer and our ABORT have crossed: no generation has the number of one that was refused."""
        return slot.serves and message.generation < self.numbered and message.generation not in (0, slot.asked)

    def _on_ready(self, slot: Slot, message: Message) -> None:
        if message.generation != slot.asked:
            return
        slot.step = Step.NOTHING
        if (
            slot.state is not State.STARTING  # one that was started after the decision comes up like any other
            and self.rollout is not None
            and message.generation == self.rollout.generation
        ):
            self.rollout.ready(slot)
        elif not self._stopping and (not self._starting or all(one.step is Step.NOTHING for one in self.slots)):
            for one in [one for one in self.slots if one.pid] if self._starting else [slot]:
                one.ask(Step.COMMIT, self.snapshot.generation)
                self._listen_for(one)
                one.send(Message("COMMIT", self.snapshot.generation))

    def _listen_for(self, slot: Slot) -> None:
        """The sockets of a slot that was added take connections from now on; those of the others do already."""
        for name, address in self.addresses.items():
            try:
                address.listen([slot.number])
            except StartError as error:
                self.events.event("error", "address_not_served", address=name, error=str(error))

    def _on_refused(self, slot: Slot, message: Message) -> None:
        if slot.state is not State.STARTING:
            if self.rollout is not None and message.generation == self.rollout.generation:
                self.rollout.refused(slot, message.text)
            return
        if self._starting and not self._stopping:
            raise StartError(f"worker {slot.number} cannot serve: {message.text}")
        self.events.event("error", "worker_refused", worker=slot.number, reason=message.text)
        slot.send(Message("STOP"))

    def _on_failed(self, slot: Slot, message: Message) -> None:
        """It cannot watch all sockets of a slot."""
        self.events.event("error", "adoption_failed", worker=slot.number, slot=message.slot, reason=message.text)

    def _on_drained(self, slot: Slot, _message: Message) -> None:
        slot.drained = True

    def _on_errand(self, slot: Slot, message: Message) -> None:
        errand = slot.errands.popleft()
        if message.text:
            self.events.event("warning", "worker_did_not_answer", worker=slot.number, reason=message.text)
            errand.gone(slot.number)
        else:
            errand.done(slot.number, message.count)

    def _on_freed(self, slot: Slot, message: Message) -> None:
        slot.living.discard(message.generation)
        self._forget()

    def _forget(self) -> None:
        """The rows of generations that nobody needs any more."""
        needed = self.generations
        for generation in [one for one in self.rows if one not in needed]:
            del self.rows[generation]

    def _on_done(self, slot: Slot, message: Message) -> None:
        """It serves the generation."""
        slot.step = Step.NOTHING
        slot.living.add(message.generation)
        if slot.state is not State.STARTING:
            if self.rollout is not None and message.generation == self.rollout.generation:
                self.rollout.done(slot, message.count)
            return
        if self._stopping:
            return
        slot.kill_at = 0.0
        slot.enter(State.RUNNING, time.monotonic())
        if self._starting:
            self._starting = not all(one.state in (State.RUNNING, State.RETIRED) for one in self.slots)
            if not self._starting:
                for one in self.slots:
                    if one.state is State.RETIRED:
                        self._adopt(one)
            return
        self.events.event("info", "worker_started", worker=slot.number, pid=slot.pid)
        for other in self.slots:
            if other.adopted and other is not slot:
                slot.send(Message("ADOPT", slot=other.number))
        self._release(slot)

    # -- adoption -------------------------------------------------------------------------------------------------------

    def _adopt(self, slot: Slot) -> None:
        if not slot.adopted:
            slot.adopted = True
            self._tell_siblings(slot, Message("ADOPT", slot=slot.number))

    def _release(self, slot: Slot) -> None:
        if slot.adopted:
            slot.adopted = False
            self._tell_siblings(slot, Message("RELEASE", slot=slot.number))

    def _tell_siblings(self, slot: Slot, message: Message) -> None:
        for other in self.slots:
            if other is not slot and other.state in (State.RUNNING, State.STUCK):
                other.send(message)

    # -- more and fewer -------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        """One worker more: a slot that was taken out is used again, else there is a new one.

        Raises:
            NlbError: there is no room for one, or its sockets cannot be bound
        """
        retired = [slot for slot in self.slots if slot.state is State.RETIRED]
        if retired:
            retired[0].enter(State.DOWN, time.monotonic())
            retired[0].backoff.due = 0.0
            return
        slot = Slot(len(self.slots))
        if slot.number == min(SLOTS, self.segment.slots):
            raise NlbError(f"there are {slot.number} worker slots and no room for more")
        for address in self.addresses.values():
            address.add(slot.number)
        place = range(slot.number, slot.number + 1)
        for other in self.slots:
            if other.state in (State.STARTING, State.RUNNING, State.STUCK):
                for message in handed_over(self.addresses, place):
                    other.send(message)
        self.segment.use(slot.number + 1)
        self.slots.append(slot)

    def shrink(self, seconds: float) -> Slot | None:
        """One worker fewer: its siblings serve its slot, it finishes what it has, for at most some `seconds`.

        Returns:
            the slot; None: it would be the last one that serves
        """
        running = [slot for slot in self.slots if slot.state is State.RUNNING]
        if len(running) < 2:
            return None
        slot = running[-1]
        slot.enter(State.RETIRING, time.monotonic())
        slot.stop_at = slot.since + seconds
        self._adopt(slot)
        slot.send(Message("DRAIN"))
        return slot

    # -- errands --------------------------------------------------------------------------------------------------------

    def send_out(self, errand: Errand, message: Callable[[Slot], Message]) -> None:
        """Send every worker on an errand, with a message of its own."""
        for slot in self.slots:
            if slot.state in (State.RUNNING, State.RETIRING):
                try:
                    order = message(slot)
                except OSError as error:  # no descriptor: this one is not asked
                    self.events.event("warning", "worker_not_asked", worker=slot.number, reason=error.strerror)
                    continue
                errand.wait_for(slot.number)
                slot.errands.append(errand)
                slot.send(order)
        if not any(errand in slot.errands for slot in self.slots):
            errand.finish()

    # -- watching -------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Look for workers that have ended.

        Raises:
            StartError: one has, while the balancer starts
        """
        for slot in self.slots:
            if slot.pid:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                if pid:
                    self._on_end(slot, os.waitstatus_to_exitcode(status))

    def _on_end(self, slot: Slot, code: int) -> None:
        now = time.monotonic()
        pid, slot.pid = slot.pid, 0
        if slot.channel is not None:
            if slot.channel.fileno() in self.selector.get_map():
                self._on_channel(slot, 0)  # its last words
            if slot.channel.fileno() in self.selector.get_map():
                self.selector.unregister(slot.channel)
            slot.channel.close()
            slot.channel = None
        self._clear_up(slot)
        reason = ended_by(code)
        if self._starting and not self._stopping:
            slot.enter(State.DOWN, now)
            raise StartError(f"worker {slot.number} ended at start: {reason}")
        if self._stopping:
            slot.enter(State.ENDED, now)
            if code != 0 and not self._told_to_stop:
                self.failed = True
                self.events.event("error", "worker_died", worker=slot.number, pid=pid, reason=reason)
            return
        if slot.state is State.RETIRING:
            slot.enter(State.RETIRED, now)
            slot.begun = False
            self.events.event("info", "worker_retired", worker=slot.number, pid=pid, reason=reason)
            return
        if slot.state is not State.STARTING and now - slot.since > SETTLED:
            slot.backoff.settled()
        if code == worker.EXIT_CANNOT_START:
            slot.backoff.despair()
        delay = f"{self._put_off(slot, now):g}s"
        self.events.event("error", "worker_died", worker=slot.number, pid=pid, reason=reason, restart_in=delay)
        self._adopt(slot)

    def _clear_up(self, slot: Slot) -> None:
        """What a worker that is gone leaves behind."""
        self.segment.repair(slot.number, *self._rows_in_use())
        slot.living.clear()
        slot.silences = 0
        slot.silent = False
        slot.forget()
        slot.kill_at = slot.stop_at = 0.0
        slot.ask(Step.NOTHING, 0)
        while slot.errands:
            slot.errands.popleft().gone(slot.number)
        if self.rollout is not None:
            self.rollout.gone(slot)
        self._forget()

    def _rows_in_use(self) -> tuple[set[int], set[int]]:
        listeners = {row for rows in self.rows.values() for row in rows.listeners.values()}
        servers = {row for rows in self.rows.values() for row in rows.servers.values()}
        return listeners, servers

    def _put_off(self, slot: Slot, now: float) -> float:
        slot.enter(State.DOWN, now)
        alone = not any(one.state is State.RUNNING for one in self.slots)
        return slot.backoff.fail(now, LONGEST_GAP if alone else math.inf)

    @property
    def _held(self) -> bool:
        """Whether restarts wait for the decision of a rollout."""
        return self.rollout is not None and not self.rollout.committing

    def tick(self) -> None:
        """What time brings: restarts, workers that take too long to start, hearts that do not beat.

        Raises:
            StartError: a worker did not come up in time, while the balancer starts
        """
        now = time.monotonic()
        if now - self._ticked > LATE:
            self._woke = now
        self._ticked = now
        if self.rollout is not None:
            self.rollout.tick(now)
        for slot in self.slots:
            slot.flush()
            if slot.state is State.DOWN and now >= slot.backoff.due and not self._stopping and not self._held:
                self._restart(slot, now)
            if slot.serves and not self._told_to_stop:
                self._listen(slot, now)
            if slot.stop_at and now >= slot.stop_at:
                slot.stop_at = 0.0
                slot.kill_at = now + KILL_AFTER
                slot.send(Message("STOP"))
            if slot.pid and slot.kill_at and now >= slot.kill_at:
                self._give_up(slot)
            for errand in slot.errands:
                if now >= errand.until:
                    errand.finish()

    def patience(self) -> float:
        """Seconds until a worker is to be started again, if one is."""
        if self._stopping or self._held:
            return math.inf
        due = [slot.backoff.due for slot in self.slots if slot.state is State.DOWN]
        return max(0.0, min(due) - time.monotonic()) if due else math.inf

    def _restart(self, slot: Slot, now: float) -> None:
        again = slot.begun
        try:
            self._start(slot)
            slot.restarts += again
        except OSError as error:
            self._put_off(slot, now)
            self.events.event("error", "worker_not_started", worker=slot.number, error=error.strerror)

    def _give_up(self, slot: Slot) -> None:
        if self._starting and not self._stopping:
            raise StartError(f"worker {slot.number} did not start within {START_TIMEOUT:g} s")
        self.events.event("error", "worker_killed", worker=slot.number, pid=slot.pid, state=slot.state)
        self.kill_one(slot)

    def kill_one(self, slot: Slot) -> None:
        """SIGKILL to the worker of a slot."""
        if slot.pid:
            os.kill(slot.pid, signal.SIGKILL)
            slot.kill_at = 0.0

    def _listen(self, slot: Slot, now: float) -> None:
        """To its heart."""
        beat = max(self.segment.block(slot.number).heartbeat / 1000, self._woke)
        if slot.state is not State.STUCK:
            beat = max(beat, slot.since)
        if slot.state is not State.STUCK and not slot.kill_at and now - beat > STUCK_AFTER:
            self.events.event("error", "worker_stuck", worker=slot.number, pid=slot.pid, silent=f"{now - beat:.1f}s")
            slot.kill_at = beat + KILL_AFTER
            slot.silent = True
            if slot.state is State.RUNNING:
                slot.enter(State.STUCK, now)
                if not self._stopping:
                    self._adopt(slot)
        elif slot.silent and now - beat <= STUCK_AFTER:
            self.events.event("info", "worker_recovered", worker=slot.number, pid=slot.pid)
            slot.silent = False
            slot.kill_at = 0.0
            if slot.state is State.STUCK:
                slot.enter(State.RUNNING, now)
                self._release(slot)

    # -- stop -----------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept what is queued, then no more; workers end when their last connection has."""
        self._stop("DRAIN")

    def stop(self) -> None:
        """End every connection; who is still there after KILL_AFTER is killed."""
        self._told_to_stop = True
        self._stop("STOP")
        for slot in self.slots:
            slot.kill_at = time.monotonic() + KILL_AFTER if slot.pid else 0.0

    def _stop(self, command: str) -> None:
        self._stopping = True
        if self._held and self.rollout is not None:
            self.rollout.abort("the balancer stops")
        for slot in self.slots:
            if slot.pid:
                slot.send(Message(command))  # type: ignore[arg-type]
            elif slot.state is not State.ENDED:
                slot.enter(State.ENDED, time.monotonic())

    def kill(self) -> None:
        """Leave nobody behind."""
        for slot in self.slots:
            if slot.pid:
                os.kill(slot.pid, signal.SIGKILL)
                os.waitpid(slot.pid, 0)
                slot.pid = 0
