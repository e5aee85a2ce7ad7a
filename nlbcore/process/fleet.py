"""The workers: one for each slot, started, watched, replaced.

Sockets belong to slots, and the supervisor keeps them open for ever; a worker only accepts from them. So when a slot has
no worker that serves it - it has died, or its heart does not beat - its siblings *adopt* it: they accept from its sockets
too, until it has one that runs. Nobody waits in a queue that nobody reads, and no queue is lost.

    down -> starting -> running <-> stuck
      ^         |          |          |
      +---------+----------+----------+        ended: stopping, and the worker has gone

Start-up is different in one point: all are prepared before one is told to serve, and the first that cannot ends it. Later a
worker that dies is started again, with back-off; what it left in the segment is repaired when it is reaped.

Before the fork: the sockets, the segment and the blank front contexts are made, the heap is frozen, signals blocked. After
it the child closes every descriptor that is not its own - the other workers' channels above all, whose end is how a worker
learns that the supervisor is gone.
"""

from __future__ import annotations

import enum
import itertools
import math
import os
import resource
import selectors
import signal
import time
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nlbcore.errors import StartError
from nlbcore.process import worker
from nlbcore.process.channel import Channel, ChannelError, Message

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import NoReturn

    from OpenSSL import SSL

    from nlbcore.observe.log import EventLog
    from nlbcore.process.snapshot import Snapshot
    from nlbcore.segment import Segment

START_TIMEOUT = 30.0
"""Seconds that a worker may take for its first generation."""
STUCK_AFTER = 1.0
"""Seconds without a heartbeat after which a slot is adopted; the heart beats ten times a second."""
KILL_AFTER = 3.0
"""Seconds without a heartbeat, or after the order to stop, until SIGKILL."""
DELAYS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a worker is started again, for each time that it has died early."""
SETTLED = 60.0
"""Seconds that a worker must have served for its next death to count as the first."""
MESSAGES = 16
"""Of one worker, in one turn of the main loop."""
LONGEST_GAP = 1.0
"""Seconds before a worker is started again when not one is running."""
LATE = 1.0
"""Seconds between two looks after which the supervisor itself has slept (SIGSTOP, a paused machine): it accuses nobody of
a silence that was its own."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)


class State(enum.StrEnum):
    """Of a slot."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    STUCK = "stuck"
    ENDED = "ended"


@dataclass
class Slot:
    """A worker's place.

    Attributes:
        number: of the slot
        state: see the picture above
        pid: of its worker, 0 for none
        channel: to its worker
        since: when it came into its state, on the monotonic clock
        due: when it is started (down), or given up and killed (starting, stuck)
        restarts: workers that were started after the first
        failures: early deaths in a row
        adopted: its siblings accept for it
        prepared: it has said READY
        drained: it accepts no more
    """

    number: int
    state: State = State.DOWN
    pid: int = 0
    channel: Channel | None = None
    since: float = 0.0
    due: float = 0.0
    restarts: int = 0
    failures: int = 0
    adopted: bool = False
    prepared: bool = False
    drained: bool = False

    def enter(self, state: State, now: float) -> None:
        self.state = state
        self.since = now

    def send(self, message: Message) -> None:
        """One that does not read its channel does not beat either, and is dealt with for that."""
        if self.channel is not None:
            self.channel.send(message)


class Fleet:
    """All slots.

    Args:
        listening: the sockets, by listener, address and slot
    """

    def __init__(
        self,
        count: int,
        listening: Mapping[str, list[list[socket.socket]]],
        segment: Segment,
        eventfd: int,
        fronts: Mapping[str, SSL.Context],
        events: EventLog,
        selector: selectors.BaseSelector,
    ) -> None:
        self.slots = [Slot(number) for number in range(count)]
        self.listening = listening
        self.segment = segment
        self.eventfd = eventfd
        self.fronts = fronts
        self.events = events
        self.selector = selector
        self.failed = False
        """Whether a worker ended with an error while the balancer was stopping."""
        self._starting = True
        self._stopping = False
        self._told_to_stop = False
        self._ticked = self._woke = time.monotonic()
        self._handlers = {
            "READY": self._on_ready,
            "REFUSED": self._on_refused,
            "FAILED": self._on_failed,
            "DONE": self._on_done,
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
    def ended(self) -> bool:
        return all(slot.state is State.ENDED for slot in self.slots)

    @property
    def drained(self) -> bool:
        """Whether nobody accepts any more."""
        return all(slot.drained or slot.state is State.ENDED for slot in self.slots)

    # -- start --------------------------------------------------------------------------------------------------------

    def start(self, snapshot: Snapshot, sealed: int) -> None:
        """Start a worker in every slot.

        Args:
            snapshot: the generation in force
            sealed: the same, as a sealed memfd
        Raises:
            StartError: no process can be made
        """
        self.snapshot = snapshot
        self.sealed = sealed
        for slot in self.slots:
            try:
                self._start(slot)
            except OSError as error:
                raise StartError(f"cannot start worker {slot.number}: {error.strerror}") from None

    def _start(self, slot: Slot) -> None:
        ours, theirs = Channel.pair()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.selector.register(ours, selectors.EVENT_READ, partial(self._on_channel, slot))
            try:
                pid = os.fork()
            except OSError:
                self.selector.unregister(ours)
                raise
            if pid == 0:
                self._become_worker(slot.number, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            theirs.close()
        now = time.monotonic()
        slot.pid, slot.channel = pid, ours
        slot.prepared = slot.drained = False
        slot.due = now + START_TIMEOUT
        slot.enter(State.STARTING, now)
        slot.send(Message("PREPARE", self.snapshot.generation, fd=self.sealed))

    def _become_worker(self, number: int, channel: Channel) -> NoReturn:
        """The child's way: whatever happens, it does not come back from here."""
        try:
            signal.set_wakeup_fd(-1)
            sockets = [sock for addresses in self.listening.values() for slots in addresses for sock in slots]
            kept = {0, 1, 2, channel.fileno(), self.segment.fd, self.eventfd, *(sock.fileno() for sock in sockets)}
            _close_all_but(sorted(kept))
            worker.main(
                worker.Inheritance(
                    slot=number,
                    channel=channel,
                    segment=self.segment,
                    eventfd=self.eventfd,
                    sockets=self.listening,
                    fronts=self.fronts,
                )
            )
        except BaseException:  # noqa: BLE001 - whatever it is, this is not the supervisor
            traceback.print_exc()
        finally:
            os._exit(worker.EXIT_CANNOT_START)

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
            if slot.pid:
                os.kill(slot.pid, signal.SIGKILL)
        self.selector.unregister(slot.channel)  # the end: it is about to be reaped, or it is as good as dead
        slot.due = min(slot.due, time.monotonic() + KILL_AFTER) if slot.due else time.monotonic() + KILL_AFTER

    def _fits(self, slot: Slot, message: Message) -> bool:
        """Whether a worker may say this now."""
        if message.command == "DRAINED":
            return self._stopping
        if message.command == "FAILED":
            return message.slot < len(self.slots)
        if message.command == "REFUSED":
            return slot.state is State.STARTING
        return (
            slot.state is State.STARTING
            and message.generation == self.snapshot.generation
            and slot.prepared == (message.command == "DONE")
        )

    def _on_ready(self, slot: Slot, _message: Message) -> None:
        slot.prepared = True
        if self._stopping:
            return
        if not self._starting:
            slot.send(Message("COMMIT", self.snapshot.generation))
        elif all(one.prepared for one in self.slots):
            for one in self.slots:
                one.send(Message("COMMIT", self.snapshot.generation))

    def _on_refused(self, slot: Slot, message: Message) -> None:
        if self._starting and not self._stopping:
            raise StartError(f"worker {slot.number} cannot serve: {message.reason}")
        self.events.event("error", "worker_refused", worker=slot.number, reason=message.reason)
        slot.send(Message("STOP"))

    def _on_failed(self, slot: Slot, message: Message) -> None:
        """It could not adopt a slot, or not all of it."""
        self.events.event("error", "adoption_failed", worker=slot.number, slot=message.slot, reason=message.reason)

    def _on_drained(self, slot: Slot, _message: Message) -> None:
        slot.drained = True

    def _on_done(self, slot: Slot, _message: Message) -> None:
        """It serves the generation."""
        if self._stopping:
            return
        slot.due = 0.0
        slot.enter(State.RUNNING, time.monotonic())
        if self._starting:
            self._starting = not all(one.state is State.RUNNING for one in self.slots)
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
        rows = self.snapshot.rows
        self.segment.repair(slot.number, rows.listeners.values(), rows.servers.values())
        reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        if self._starting and not self._stopping:
            slot.enter(State.DOWN, now)
            raise StartError(f"worker {slot.number} ended at start: {reason}")
        if self._stopping:
            slot.enter(State.ENDED, now)
            if code != 0 and not self._told_to_stop:
                self.failed = True
                self.events.event("error", "worker_died", worker=slot.number, pid=pid, reason=reason)
            return
        if slot.state is not State.STARTING and now - slot.since > SETTLED:
            slot.failures = 0
        if code == worker.EXIT_CANNOT_START:
            slot.failures = len(DELAYS)  # it would not be better in a second
        self._put_off(slot, now)
        delay = f"{slot.due - now:g}s"
        self.events.event("error", "worker_died", worker=slot.number, pid=pid, reason=reason, restart_in=delay)
        self._adopt(slot)

    def _put_off(self, slot: Slot, now: float) -> None:
        slot.enter(State.DOWN, now)
        delay = DELAYS[min(slot.failures, len(DELAYS) - 1)]
        if not any(one.state is State.RUNNING for one in self.slots):
            delay = min(delay, LONGEST_GAP)
        slot.due = now + delay
        slot.failures += 1

    def tick(self) -> None:
        """What time brings: restarts, workers that take too long to start, hearts that do not beat.

        Raises:
            StartError: a worker did not come up in time, while the balancer starts
        """
        now = time.monotonic()
        if now - self._ticked > LATE:
            self._woke = now
        self._ticked = now
        for slot in self.slots:
            if slot.state is State.DOWN and now >= slot.due and not self._stopping:
                self._restart(slot, now)
            if slot.state in (State.RUNNING, State.STUCK) and not self._told_to_stop:
                self._listen(slot, now)
            if slot.pid and slot.due and now >= slot.due:
                self._give_up(slot)

    def patience(self) -> float:
        """Seconds until a worker is to be started again, if one is."""
        due = [slot.due for slot in self.slots if slot.state is State.DOWN]
        return max(0.0, min(due) - time.monotonic()) if due and not self._stopping else math.inf

    def _restart(self, slot: Slot, now: float) -> None:
        try:
            self._start(slot)
        except OSError as error:
            self._put_off(slot, now)
            self.events.event("error", "worker_not_started", worker=slot.number, error=error.strerror)
        else:
            slot.restarts += 1

    def _give_up(self, slot: Slot) -> None:
        if self._starting and not self._stopping:
            raise StartError(f"worker {slot.number} did not start within {START_TIMEOUT:g} s")
        self.events.event("error", "worker_killed", worker=slot.number, pid=slot.pid, state=slot.state)
        os.kill(slot.pid, signal.SIGKILL)
        slot.due = 0.0

    def _listen(self, slot: Slot, now: float) -> None:
        """To its heart."""
        beat = max(self.segment.block(slot.number).heartbeat / 1000, self._woke)
        if slot.state is State.RUNNING:
            beat = max(beat, slot.since)
        if slot.state is State.RUNNING and now - beat > STUCK_AFTER:
            self.events.event("error", "worker_stuck", worker=slot.number, pid=slot.pid, silent=f"{now - beat:.1f}s")
            slot.enter(State.STUCK, now)
            slot.due = beat + KILL_AFTER
            if not self._stopping:
                self._adopt(slot)
        elif slot.state is State.STUCK and now - beat <= STUCK_AFTER:
            self.events.event("info", "worker_recovered", worker=slot.number, pid=slot.pid)
            slot.enter(State.RUNNING, now)
            slot.due = 0.0
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
            slot.due = time.monotonic() + KILL_AFTER if slot.pid else 0.0

    def _stop(self, command: str) -> None:
        self._stopping = True
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


def _close_all_but(kept: list[int]) -> None:
    """Close every descriptor but these, in order; without making one, since there may be none left."""
    for below, above in itertools.pairwise([-1, *kept, resource.getrlimit(resource.RLIMIT_NOFILE)[0]]):
        if below + 1 < above:  # an empty range would be taken for an endless one
            os.closerange(below + 1, above)
