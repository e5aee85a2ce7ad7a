"""A worker: the data plane of one slot, a function of snapshots.

Runs after fork, in its own process, with one thread; before the fork the supervisor has made the listening sockets, the
segment and the blank front contexts, which it inherits. It opens no file. Signals are the supervisor's: a Python handler
would not run while the loop is without the GIL, so the worker ignores them and obeys its channel. The end of the channel
(the supervisor is gone, however it ended) is an order to stop; no other process holds the supervisor's end of it.

What takes longer than a step of a handshake - to prepare a generation, to look at all connections, to free what a
generation has left - is a generator, of which one step is done between two rounds of the loop, and none while connections
wait, unless they do for ever.
"""

from __future__ import annotations

import array
import ctypes
import gc
import os
import signal
import socket
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import setproctitle

from nlbcore.engine import counters
from nlbcore.engine.engine import Engine
from nlbcore.errors import EXIT_FAILED
from nlbcore.process.attendant import SIGNALS
from nlbcore.process.channel import ANY, Channel, Message
from nlbcore.process.preparation import Preparation, Trust
from nlbcore.segment import BLOCK
from nlbcore.tls.context import apply

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import NoReturn

    from OpenSSL import SSL

    from nlbcore.segment import Segment

EXIT_CANNOT_START = 3
"""A worker that cannot work at all. The supervisor gives up a start for it, instead of starting it again for ever."""

LAST_WORDS = 1.0
"""Seconds that a stopping worker gives its connections to take their last bytes."""

STEP_AFTER = 0.005
"""Seconds without a step of longer work after which one is done although connections wait."""

REAP_EVERY = 0.5
"""Seconds between two looks whether a retired generation is needed no more."""

NO_ROOM = "too many open files"
"""Connections take them all; what is asked for is not done, and nobody loses a connection for it."""

RECHECKED_US = 200
"""Microseconds of re-checking live connections between two rounds: no more than a step of a handshake."""


@dataclass(frozen=True)
class Inheritance:
    """What a worker takes over through the fork.

    Attributes:
        slot: its number
        channel: its end of the channel
        segment: the shared segment
        eventfd: wakes the log writer
        sockets: the listening sockets by address, and there by slot; from ANY on: for all slots
        fronts: the blank front contexts, by row of the listener
        may_poll: there are processors enough for it to keep one busy while it waits
    """

    slot: int
    channel: Channel
    segment: Segment
    eventfd: int
    sockets: Mapping[str, Mapping[int, socket.socket]]
    fronts: Sequence[SSL.Context]
    may_poll: bool


class Worker:
    """Obeys the channel and runs the engine in between."""

    def __init__(self, inheritance: Inheritance) -> None:
        self.inherited = inheritance
        self.slot = inheritance.slot
        self.channel = inheritance.channel
        self.sockets = {address: dict(sockets) for address, sockets in inheritance.sockets.items()}
        self.prepared: Preparation | None = None
        self.generation = 0
        self.generations: set[int] = set()
        """Those that somebody needs."""
        self.lacking = False
        """Whether it has no room for sockets that it was given."""
        self.stopping = False
        self.status = 0
        self.numbers: dict[str, int] = {}
        """Of the listeners in force, in the engine."""
        self.addresses: dict[str, int] = {}
        """Which of them accepts at each address."""
        self.trust: dict[str, Trust] = {}
        self.acceptors: dict[int, dict[str, list[int]]] = {self.slot: {}}
        """By slot - our own and those that we have adopted - and address."""
        self.work: deque[Generator[None, None, None]] = deque()
        self.garbage: list[object] = []
        segment = inheritance.segment
        block = segment.block(inheritance.slot)
        counters.use(ctypes.addressof(block), ctypes.sizeof(block))
        first = ctypes.addressof(segment.block(0))
        counters.share(ctypes.addressof(segment.shared), first, BLOCK, segment.slots)
        self.engine = Engine(inheritance.slot, self.channel.fileno(), inheritance.eventfd)

    # -- the main loop ------------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Run until the order to stop has been carried out; the exit status."""
        stepped = reaped = 0.0
        while not self.stopping:
            old_ones = len(self.generations) > 1
            called = self.engine.turn() if self.work else self.engine.run(REAP_EVERY if old_ones else 0)
            if called is None:
                break
            if called:
                for message in self._messages():
                    getattr(self, f"_on_{message.command.lower()}")(message)
            now = time.monotonic()
            if self.work and (not self.engine.busy or now - stepped > STEP_AFTER):
                stepped = now
                self._step()
            if old_ones and now - reaped > REAP_EVERY:
                reaped = now
                self._reap()
        if self.stopping:
            self._last_words()
        return self.status

    def _step(self) -> None:
        try:
            next(self.work[0])
        except StopIteration:
            self.work.popleft()

    def _messages(self) -> list[Message]:
        """Everything that waits in the channel; its end is the order to stop."""
        waiting = []
        try:
            while (message := self.channel.receive()) is not None:
                waiting.append(message)
            waiting.append(Message("STOP"))
        except BlockingIOError:
            pass
        return waiting

    # -- a generation -------------------------------------------------------------------------------------------------

    def _on_prepare(self, message: Message) -> None:
        self._drop_prepared()
        if message.lost or self.lacking:
            self.channel.send(Message("REFUSED", message.generation, NO_ROOM))
            return
        self.prepared = Preparation(
            message.generation, self.slot, self.inherited.fronts, self.engine, self.trust, self.garbage
        )
        self.work.append(self._preparing(self.prepared, message.fds[0]))

    def _preparing(self, prepared: Preparation, sealed: int) -> Generator[None, None, None]:
        try:
            yield from prepared.steps(sealed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no and the old generation stays
            if prepared.wanted:
                self._drop_prepared()
                text = f"{type(error).__name__}: {error}"
                self.channel.send(Message("REFUSED", prepared.generation, text))
        else:
            if prepared.wanted:
                prepared.ready = True
                self.channel.send(Message("READY", prepared.generation))
        finally:
            os.close(sealed)

    def _on_abort(self, message: Message) -> None:
        if self.prepared is not None and self.prepared.generation == message.generation:
            self._drop_prepared()
        self.lacking = False
        for address in self.sockets.keys() - self.addresses.keys():
            for listening in self.sockets.pop(address).values():
                listening.close()

    def _drop_prepared(self) -> None:
        """What was made of it is freed in steps; its own next step finds that it is not wanted."""
        if self.prepared is not None:
            self.prepared.drop()
            self.prepared = None
            self._reap()

    def _on_commit(self, message: Message) -> None:
        prepared = self.prepared
        if prepared is None or not prepared.ready or prepared.generation != message.generation:
            raise RuntimeError(f"COMMIT {message.generation} without its PREPARE")
        self.prepared = None
        first = self.generation == 0
        try:
            self._serve_generation(prepared)
        except OSError as error:  # a socket cannot be watched
            if first:
                self.channel.send(Message("REFUSED", message.generation, str(error)))
                self.status = EXIT_CANNOT_START
                self.stopping = True
                return
            self.channel.send(Message("FAILED", message.generation, str(error), slot=self.slot))
        if not first and any(trust.verify for trust in self.trust.values()):
            self.engine.recheck()
            self.work.append(self._rechecking(message.generation))
        else:
            self.channel.send(Message("DONE", message.generation))
        self._reap()

    def _serve_generation(self, prepared: Preparation) -> None:
        """Pointer swaps, and calls that PREPARE has rehearsed."""
        for row, wanted in prepared.settings.items():
            apply(self.inherited.fronts[row], wanted)
        gone = {number for name, number in self.numbers.items() if name not in prepared.numbers}
        self.numbers, self.addresses, self.trust = prepared.numbers, prepared.addresses, prepared.trust
        self.generation = prepared.generation
        self.generations.add(prepared.generation)
        self.engine.busy_poll(prepared.busy_poll and self.inherited.may_poll)
        failed = None
        try:
            for slot in self.acceptors:
                try:
                    self._accept_for(slot)
                except OSError as error:
                    failed = error
            if failed is not None:
                raise failed
        finally:
            for number in self.numbers.values():
                self.engine.succeed(number)
            for number in gone:
                self.engine.retire(number)
            for address in self.sockets.keys() - self.addresses.keys():
                for listening in self.sockets.pop(address).values():
                    listening.close()

    def _accept_for(self, slot: int) -> None:
        """Accept from the sockets of a slot for the listeners in force, and from no others. Those that all slots share are
        watched with our own.

        Raises:
            OSError: a socket cannot be watched
        """
        taken = self.acceptors[slot]
        for address in taken.keys() - self.addresses.keys():
            for acceptor in taken.pop(address):
                self.engine.drain_acceptor(acceptor)
        failed = None
        for address, number in self.addresses.items():
            for acceptor in taken.get(address, ()):
                self.engine.move_acceptor(acceptor, number)
            if address not in taken:
                taken[address] = []
                for of, listening in self.sockets.get(address, {}).items():
                    if of == slot or (of >= ANY and slot == self.slot):
                        shared = of != self.slot
                        try:
                            taken[address].append(self.engine.add_acceptor(listening.fileno(), number, shared))
                        except OSError as error:  # what can be watched is
                            failed = error
        if failed is not None:
            raise failed

    def _rechecking(self, generation: int) -> Generator[None, None, None]:
        while (closed := self.engine.recheck_slice(RECHECKED_US)) is None:
            yield
        self.channel.send(Message("DONE", generation, count=closed))

    def _reap(self) -> None:
        """Take out what nobody needs any more; it is freed in steps."""
        idle = not self.garbage
        for plan in self.engine.reap():
            self.garbage += plan.keep
        if self.garbage and idle:
            self.work.append(self._freeing())
        living = self.engine.generations()
        for generation in sorted(self.generations - living - {self.generation}):
            self.channel.send(Message("FREED", generation))
            self.generations.discard(generation)

    def _freeing(self) -> Generator[None, None, None]:
        while self.garbage:
            self.garbage.pop()
            yield

    # -- sockets ------------------------------------------------------------------------------------------------------

    def _on_sockets(self, message: Message) -> None:
        if message.lost:
            self.lacking = True
            for fd in message.fds:
                os.close(fd)
            self.channel.send(Message("FAILED", slot=self.slot, text=NO_ROOM))
            return
        sockets = self.sockets.setdefault(message.text, {})
        for slot, fd in enumerate(message.fds, message.slot):
            sockets[slot] = socket.socket(fileno=fd)

    def _on_adopt(self, message: Message) -> None:
        """Accept for another slot too."""
        self.acceptors.setdefault(message.slot, {})
        try:
            self._accept_for(message.slot)
        except OSError as error:  # what is taken is served
            self.channel.send(Message("FAILED", slot=message.slot, text=str(error)))

    def _on_release(self, message: Message) -> None:
        for acceptors in self.acceptors.pop(message.slot, {}).values():
            for acceptor in acceptors:
                self.engine.remove_acceptor(acceptor)

    # -- who is connected -----------------------------------------------------------------------------------------------

    def _on_dump(self, message: Message) -> None:
        if message.lost:
            self.work.append(self._answering(Message("DUMPED", text=NO_ROOM)))
            return
        self.work.append(self._dumping(message.fds[0]))

    def _answering(self, message: Message) -> Generator[None, None, None]:
        """In its turn: answers come in the order of the questions."""
        yield from ()
        self.channel.send(message)

    def _dumping(self, fd: int) -> Generator[None, None, None]:
        reason = ""
        try:
            slot: int | None = 0
            while slot is not None:
                slot = self.engine.dump_slice(fd, slot)
                yield
        except OSError as error:
            reason = error.strerror or str(error)
        finally:
            os.close(fd)
        self.channel.send(Message("DUMPED", text=reason))

    def _on_kill(self, message: Message) -> None:
        if message.lost:
            self.work.append(self._answering(Message("KILLED", text=NO_ROOM)))
            return
        numbers = array.array("Q")
        with os.fdopen(message.fds[0], "rb") as file:
            numbers.frombytes(os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0))
        self.work.append(self._killing(frozenset(numbers)))

    def _killing(self, numbers: frozenset[int]) -> Generator[None, None, None]:
        slot: int | None = 0
        killed = 0
        while slot is not None:
            slot, ended = self.engine.kill_slice(numbers, slot)
            killed += ended
            yield
        self.channel.send(Message("KILLED", count=killed))

    # -- the end --------------------------------------------------------------------------------------------------------

    def _on_drain(self, message: Message) -> None:  # noqa: ARG002 - all handlers are called alike
        self._stop_accepting()
        self.channel.send(Message("DRAINED"))

    def _on_stop(self, message: Message) -> None:  # noqa: ARG002
        self.stopping = True

    def _last_words(self) -> None:
        """Every session is told that it ends, and given a moment to take what is on its way."""
        self._stop_accepting()
        self.engine.shut()
        self.engine.run(LAST_WORDS)
        self.engine.close()

    def _stop_accepting(self) -> None:
        """A socket goes on to listen until all who have it open have closed it."""
        self.engine.stop_accepting()
        self.acceptors.clear()
        for sockets in self.sockets.values():
            for listening in sockets.values():
                listening.close()


def main(inheritance: Inheritance) -> NoReturn:
    """A worker's life after the fork; never returns into the supervisor's code."""
    status = EXIT_FAILED
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        gc.disable()
        setproctitle.setproctitle(f"nlb: worker {inheritance.slot}")
        status = _serve(inheritance)
    except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(inheritance: Inheritance) -> int:
    try:
        worker = Worker(inheritance)
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor is told
        inheritance.channel.send(Message("REFUSED", text=f"{type(error).__name__}: {error}"))
        return EXIT_CANNOT_START
    return worker.serve()
