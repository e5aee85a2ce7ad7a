"""A worker: the data plane of one slot, a function of snapshots.

Runs after fork, in its own process, with one thread; before the fork the supervisor has made the listening sockets, the
segment and the blank front contexts, which it inherits. It opens no file. Signals are the supervisor's: a Python handler
would not run while the loop is without the GIL, so the worker ignores them and obeys its channel. The end of the channel
(the supervisor is gone, however it ended) is an order to stop; no other process holds the supervisor's end of it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import setproctitle
from OpenSSL import SSL

from nlbcore.engine import counters
from nlbcore.engine.engine import Engine
from nlbcore.engine.hooks import ListenerPlan
from nlbcore.engine.revoked import Table
from nlbcore.errors import EXIT_FAILED
from nlbcore.pool.schedulers import Group, route_address
from nlbcore.process.channel import Channel, Message
from nlbcore.process.snapshot import Snapshot
from nlbcore.segment import BLOCK
from nlbcore.tls.context import Front, Settings, apply, blank, certificate_contexts, context_address, settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from nlbcore.config.model import Listener
    from nlbcore.segment import Segment

EXIT_CANNOT_START = 3
"""A worker that cannot work at all. The supervisor gives up a start for it, instead of starting it again for ever."""

LAST_WORDS = 1.0
"""Seconds that a stopping worker gives its connections to take their last bytes."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Inheritance:
    """What a worker takes over through the fork.

    Attributes:
        slot: its number
        channel: its end of the channel
        segment: the shared segment
        eventfd: wakes the log writer
        sockets: the listening sockets of all slots, by listener, address and slot
        fronts: the blank front contexts, by listener
    """

    slot: int
    channel: Channel
    segment: Segment
    eventfd: int
    sockets: Mapping[str, list[list[socket.socket]]]
    fronts: Mapping[str, SSL.Context]


@dataclass(frozen=True)
class Prepared:
    """A generation that PREPARE has made ready and COMMIT puts in force without being able to fail."""

    generation: int
    settings: dict[str, Settings]
    plans: dict[str, ListenerPlan]


class Worker:
    """Obeys the channel and runs the engine in between."""

    def __init__(self, inheritance: Inheritance) -> None:
        self.inherited = inheritance
        self.channel = inheritance.channel
        self.prepared: Prepared | None = None
        self.stopping = False
        self.status = 0
        self.numbers: dict[str, int] = {}
        """Of the listeners in the engine."""
        self.adopted: dict[int, list[int]] = {}
        """By slot, the numbers of the acceptors."""
        segment = inheritance.segment
        block = segment.block(inheritance.slot)
        counters.use(ctypes.addressof(block), ctypes.sizeof(block))
        first = ctypes.addressof(segment.block(0))
        counters.share(ctypes.addressof(segment.shared), first, BLOCK, segment.slots)
        self.engine = Engine(inheritance.slot, self.channel.fileno(), inheritance.eventfd)

    def serve(self) -> int:
        """Run until the order to stop has been carried out; the exit status."""
        while not self.stopping and self.engine.run():
            for message in self._messages():
                getattr(self, f"_on_{message.command.lower()}")(message)
        if self.stopping:
            self._last_words()
        return self.status

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

    def _on_prepare(self, message: Message) -> None:
        try:
            try:
                snapshot = Snapshot.unseal(message.fd)
            finally:
                os.close(message.fd)
            self.prepared = self._prepare(snapshot)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no and the old generation stays
            self.channel.send(Message("REFUSED", message.generation, f"{type(error).__name__}: {error}"))
        else:
            self.channel.send(Message("READY", message.generation))

    def _on_abort(self, message: Message) -> None:  # noqa: ARG002 - all handlers are called alike
        self.prepared = None

    def _on_commit(self, message: Message) -> None:
        prepared = self.prepared
        if prepared is None or prepared.generation != message.generation:
            raise RuntimeError(f"COMMIT {message.generation} without its PREPARE")
        self.prepared = None
        try:
            self._serve_generation(prepared)
        except OSError as error:  # of the first generation: a socket cannot be watched
            self.channel.send(Message("REFUSED", message.generation, str(error)))
            self.status = EXIT_CANNOT_START
            self.stopping = True
        else:
            self.channel.send(Message("DONE", message.generation))

    def _serve_generation(self, prepared: Prepared) -> None:
        for name, plan in prepared.plans.items():
            if name in prepared.settings:
                apply(self.inherited.fronts[name], prepared.settings[name])
            self.numbers[name] = self.engine.add_listener(plan)
            for slots in self.inherited.sockets[name]:
                listening = slots[self.inherited.slot]
                shared = slots.count(listening) > 1
                self.engine.add_acceptor(listening.fileno(), self.numbers[name], shared)

    def _on_adopt(self, message: Message) -> None:
        """Accept for another slot too. A socket that all slots share is watched already."""
        taken = self.adopted.setdefault(message.slot, [])
        if taken:
            return
        sockets = [
            (slots[message.slot].fileno(), number)
            for name, number in self.numbers.items()
            for slots in self.inherited.sockets[name]
            if slots[message.slot] is not slots[self.inherited.slot]
        ]
        try:
            taken.extend(self.engine.add_acceptor(fd, number, True) for fd, number in sockets)
        except OSError as error:  # what is taken is served
            self.channel.send(Message("FAILED", slot=message.slot, reason=str(error)))

    def _on_release(self, message: Message) -> None:
        for number in self.adopted.pop(message.slot, ()):
            self.engine.remove_acceptor(number)

    def _on_drain(self, message: Message) -> None:  # noqa: ARG002
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
        self.adopted.clear()
        for addresses in self.inherited.sockets.values():
            for slots in addresses:
                for listening in slots:
                    listening.close()

    def _prepare(self, snapshot: Snapshot) -> Prepared:
        """Everything that can fail: contexts, groups, and `apply()` tried on a blank context."""
        groups = {
            name: Group(
                [
                    (
                        snapshot.rows.servers[name, server.name],
                        server.weight,
                        server.address.family,
                        server.address.sockaddr(),
                    )
                    for server in group.servers
                ],
                group.scheduler,
            )
            for name, group in snapshot.config.server_groups.items()
        }
        for group in groups.values():
            for _ in range(self.inherited.slot):  # else the first server would get the first connection of every worker
                group.choose()
        wanted: dict[str, Settings] = {}
        plans = {}
        for name, listener in snapshot.config.listeners.items():
            if listener.protocol == "TCPSSL":
                wanted[name] = settings(name, listener, snapshot.material.listeners[name])
                apply(blank(), wanted[name])
            plans[name] = self._plan(snapshot, name, listener, groups[listener.server_group], wanted.get(name))
        return Prepared(snapshot.generation, wanted, plans)

    def _plan(
        self, snapshot: Snapshot, name: str, listener: Listener, group: Group, wanted: Settings | None
    ) -> ListenerPlan:
        front = fallback = None
        by_name: dict[str, SSL.Context] = {}
        if wanted is not None:
            front = Front(self.inherited.fronts[name])
            fallback, by_name = certificate_contexts(wanted, snapshot.material.listeners[name].certificates)
        return ListenerPlan(
            generation=snapshot.generation,
            row=snapshot.rows.listeners[name],
            group_row=snapshot.rows.groups[listener.server_group],
            front=front,
            verify=wanted is not None and wanted.verify,
            tickets=listener.session_tickets,
            strict_sni=listener.strict_sni,
            reset_truncated=listener.on_truncated == "reset",
            handshake_timeout=listener.handshake_timeout,
            connect_timeout=snapshot.config.server_groups[listener.server_group].connect_timeout,
            idle_timeout=listener.idle_timeout,
            half_close_timeout=listener.half_close_timeout,
            max_handshakes=listener.max_handshakes,
            max_connections=listener.max_connections,
            cps=listener.cps,
            route=route_address(),
            group=group.address,
            alpn=wanted.alpn if wanted is not None else b"",
            fallback=context_address(fallback) if fallback is not None else 0,
            revocations=_table(snapshot.material.listeners[name].revocations),
            overdue_accepted=listener.client_auth.on_crl_overdue == "accept",
            names={known: context_address(context) for known, context in by_name.items()},
            keep=(group, fallback, by_name, wanted),
        )


def _table(revocations: bytes | memoryview | None) -> Table | None:
    return None if revocations is None else Table(revocations)


def main(inheritance: Inheritance) -> NoReturn:
    """A worker's life after the fork; never returns into the supervisor's code."""
    status = EXIT_FAILED
    try:
        for number in _SIGNALS:
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
        inheritance.channel.send(Message("REFUSED", reason=f"{type(error).__name__}: {error}"))
        return EXIT_CANNOT_START
    return worker.serve()
