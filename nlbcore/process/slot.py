"""A slot: a worker's place. Its sockets, its block in the segment and its number outlive the workers that serve it.

    down -> starting -> running <-> stuck
      ^         |          |          |
      +---------+----------+----------+        ended: stopping, and the worker has gone
                           |
                       retiring -> retired     taken out (TTOU): it drains, and is served by its siblings for good

Before the fork: the sockets, the segment and the blank front contexts are made, the heap is frozen, signals blocked. After
it the child closes every descriptor that is not its own - the other workers' channels above all, whose end is how a worker
learns that the supervisor is gone.
"""

from __future__ import annotations

import enum
import itertools
import os
import resource
import signal
import traceback
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nlbcore.process import worker
from nlbcore.process.backoff import Backoff

if TYPE_CHECKING:
    from typing import NoReturn

    from nlbcore.process.channel import Channel, Message
    from nlbcore.process.errand import Errand

DELAYS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a worker is started again, for each time that it has died early."""


class State(enum.StrEnum):
    """Of a slot."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    STUCK = "stuck"
    RETIRING = "retiring"
    RETIRED = "retired"
    ENDED = "ended"


class Step(enum.Enum):
    """What a worker is to answer."""

    NOTHING = enum.auto()
    PREPARE = enum.auto()
    COMMIT = enum.auto()


@dataclass
class Slot:
    """One place.

    Attributes:
        number: of the slot
        state: see the picture above
        pid: of its worker, 0 for none
        channel: to its worker
        since: when it came into its state, on the monotonic clock
        kill_at: when its worker is given up and killed; 0: never
        stop_at: when its worker, which drains, is told to stop; 0: never
        begun: it has had a worker since it was taken in
        restarts: workers that were started after the first
        backoff: when the next one is started
        adopted: its siblings accept for it
        drained: it accepts no more
        asked: the generation that its worker makes ready, or has been told to serve
        step: which of both
        silences: generations in a row that it has not answered about
        living: the generations that somebody needs in it
        errands: what its worker has been told to do besides, in order
        unsent: messages that its channel had no room for
        silent: its heart does not beat, and it is to be killed for that
    """

    number: int
    state: State = State.DOWN
    pid: int = 0
    channel: Channel | None = None
    since: float = 0.0
    kill_at: float = 0.0
    stop_at: float = 0.0
    begun: bool = False
    restarts: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(DELAYS))
    adopted: bool = False
    drained: bool = False
    asked: int = 0
    step: Step = Step.NOTHING
    silences: int = 0
    living: set[int] = field(default_factory=set)
    errands: deque[Errand] = field(default_factory=deque)
    unsent: deque[Message] = field(default_factory=deque)
    silent: bool = False

    def enter(self, state: State, now: float) -> None:
        self.state = state
        self.since = now

    @property
    def serves(self) -> bool:
        """Whether it has a worker that has come up."""
        return self.state in (State.RUNNING, State.STUCK, State.RETIRING)

    def send(self, message: Message) -> None:
        """Say something to its worker, in order; what its channel has no room for waits here, for `flush()`."""
        if self.channel is None:
            return
        if self.unsent or (not self.channel.send(message) and self.channel.full):
            # The descriptors are the caller's, who may close them.
            self.unsent.append(replace(message, fds=tuple(os.dup(fd) for fd in message.fds)))

    def flush(self) -> None:
        """Send what waits. One that does not read its channel does not beat either, and is dealt with for that."""
        while self.unsent and self.channel is not None:
            if not self.channel.send(self.unsent[0]) and self.channel.full:
                return
            _close_fds(self.unsent.popleft())

    def forget(self) -> None:
        """Its worker is gone."""
        while self.unsent:
            _close_fds(self.unsent.popleft())

    def ask(self, step: Step, generation: int) -> None:
        """Note what its worker has to answer next."""
        self.step, self.asked = step, generation


def _close_fds(message: Message) -> None:
    for fd in message.fds:
        os.close(fd)


def become_worker(inheritance: worker.Inheritance) -> NoReturn:
    """The child's way: whatever happens, it does not come back from here."""
    try:
        signal.set_wakeup_fd(-1)
        sockets = [sock.fileno() for slots in inheritance.sockets.values() for sock in slots.values()]
        own = (inheritance.channel.fileno(), inheritance.segment.fd, inheritance.eventfd)
        close_all_but(sorted({0, 1, 2, *own, *sockets}))
        worker.main(inheritance)
    except BaseException:  # noqa: BLE001 - whatever it is, this is not the supervisor
        traceback.print_exc()
    finally:
        os._exit(worker.EXIT_CANNOT_START)


def close_all_but(kept: list[int]) -> None:
    """Close every descriptor but these, in order; without making one, since there may be none left."""
    for below, above in itertools.pairwise([-1, *kept, resource.getrlimit(resource.RLIMIT_NOFILE)[0]]):
        if below + 1 < above:  # an empty range would be taken for an endless one
            os.closerange(below + 1, above)
