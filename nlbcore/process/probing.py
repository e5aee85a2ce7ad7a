"""What the prober does: check every server in its turn, write the verdict, tell every change.

A task a server, but for those that the operator has in maintenance: they are not checked, and begin anew when they come
back. Due times lie on a grid of the server's own on the monotonic clock: the grids are spread over the
interval, and a prober that was held up (a stopped machine) leaves out what it missed and comes back to them, so that
thousands of servers are never checked in one burst. A task waits for its check, so two checks of a server never overlap.
New orders leave a server whose check is the same alone: its task, its place and what is known of it.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own, with nothing but checks to wait for
import contextlib
import errno
import os
import resource
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nlbcore.observe.log import STDERR, EventLog
from nlbcore.pool.health import Judge, Usable
from nlbcore.process.attendant import BEAT, beat, close_all, hear, received, say
from nlbcore.process.prober import Orders, read_checks
from nlbcore.segment import INITIAL, MAINT, REASONS, SERVERS, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlbcore.address import Endpoint
    from nlbcore.pool.health import Check

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: close() sends a reset and leaves no TIME_WAIT here."""
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
"""Errors that say something about this machine (descriptors, memory, ports) and nothing about the server."""
_RETRY = 0.05
"""Seconds between two tries to connect to a UNIX socket whose queue is full: the kernel does not tell when it is not."""
_RESERVED = 64
"""Descriptors that are not for checks."""
_TOLD_EVERY = 60.0
"""Seconds between two events that say that checks could not be made."""


class Failure(NamedTuple):
    """A server's fault: one of the segment's REASONS, and the error in words."""

    reason: str
    error: str


class NotMadeError(Exception):
    """The check could not be made, for reasons that are not the server's."""


async def tcp(target: Endpoint, limit: float, header: bytes = b"") -> Failure | None:
    """Connect within `limit` seconds, then reset, as NLB does: the server sees a connection and its reset. One that expects
    a PROXY header gets it, and an ordinary end: a reset could destroy it on its way, and would be an error in its log.

    Raises:
        NotMadeError: this machine lacks something
    """
    try:
        address = target.sockaddr()
        with socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            if not header:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            try:
                async with asyncio.timeout(limit):
                    await _connect(sock, address)
            except TimeoutError:
                if not _has_peer(sock):  # else it was this process that was late
                    return Failure("CONNECT_TIMEOUT", "connection timed out")
            if _met_itself(sock):
                return Failure("CONNECT_FAILED", "connection refused")
            if header:
                with contextlib.suppress(OSError):  # it has accepted the connection, whatever it does with it
                    sock.send(header)
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno in _LOCAL:
            raise NotMadeError(words) from None
        return Failure("CONNECT_FAILED", words)
    return None


async def _connect(sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int] | str) -> None:
    if sock.family != socket.AF_UNIX:
        await asyncio.get_running_loop().sock_connect(sock, address)
        return
    while True:
        try:
            sock.connect(address)
        except BlockingIOError:
            await asyncio.sleep(_RETRY)
        else:
            return


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _met_itself(sock: socket.socket) -> bool:
    """Where nobody listens on a port of this machine that serves outgoing connections too, a connect can meet its own
    SYN and succeed.
    """
    return sock.family != socket.AF_UNIX and _has_peer(sock) and sock.getpeername() == sock.getsockname()


_TYPES = {"TCP": tcp}


@dataclass
class Server:
    """One that is checked, or would be: `task` is None while it is not."""

    check: Check
    judge: Judge
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None


class Prober:
    """Checks servers, writes verdicts."""

    def __init__(self, segment: Segment, checks: Sequence[Check], events: EventLog) -> None:
        self.segment = segment
        self.events = events
        self.servers = {check.row: Server(check, self._resume(check)) for check in checks}
        self.usable = Usable(segment, checks)
        self.places = asyncio.Semaphore(_places())
        self.ordered = b""  # the orders of the operator, as they were last seen
        self.not_made = 0
        self.tell_after = 0.0

    def _resume(self, check: Check) -> Judge:
        """Go on from the verdict that stands."""
        verdict = self.segment.verdicts[check.row]
        known = verdict.reason < len(REASONS)  # a worker that has been taken over may have written it
        judge = Judge.resume(check, verdict.state if known else INITIAL, REASONS[verdict.reason] if known else "")
        if judge.state != verdict.state or not verdict.since_ms:
            self._write(check, judge)
        return judge

    def _anew(self, check: Check) -> Judge:
        """Nothing is known of it: it waits for its first verdict, if it gets one."""
        judge = Judge.resume(check, INITIAL, "")
        self._write(check, judge, waits=check.enabled)
        return judge

    def _write(self, check: Check, judge: Judge, *, waits: bool = False) -> None:
        """Workers act on the state: it is the last, but that none must seem not to wait any more before it has one."""
        verdict = self.segment.verdicts[check.row]
        verdict.since_ms = time.time_ns() // 1_000_000
        verdict.reason = REASONS.index(judge.reason)
        verdict.waits |= waits
        verdict.state = judge.state
        verdict.waits = waits

    # -- orders -------------------------------------------------------------------------------------------------------

    async def run(self, control: socket.socket) -> None:
        """Until the control socket ends. Whatever goes wrong here ends it too: it is started again."""
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(control, readable.set)
        say(control, {"say": "ready"})
        while True:
            beat(self.segment, "prober")
            self.look()
            try:
                async with asyncio.timeout(BEAT):
                    await readable.wait()
            except TimeoutError:
                continue
            readable.clear()
            if not self._hear(control):
                break
        for server in self.servers.values():
            server.stop()

    def _hear(self, control: socket.socket) -> bool:
        """Whether it has not ended."""
        try:
            heard = hear(control)
        except BlockingIOError:
            return True
        if heard is None:
            return False
        packet, fds = heard
        if "orders" in packet:
            new = received(Orders, packet, fds)
            old, self.events.fd = self.events.fd, new.events
            self.events.format = new.format
            self.events.set_level(new.level)
            self.obey(read_checks(new.checks))
            close_all({old} - {*range(STDERR + 1), new.events})
            fds.remove(new.events)
        close_all(fds)
        return True

    def obey(self, checks: Sequence[Check]) -> None:
        """Check these from now on. A server at another address is another server, of which nothing is known."""
        old = self.servers
        self.servers = {}
        for check in checks:
            server = old.pop(check.row, None)
            if server is not None and server.check.is_same(check):
                server.check = check
            elif server is not None:
                server.stop()
                moved = (server.check.address, server.check.target) != (check.address, check.target)
                server = Server(check, self._anew(check) if moved else self._resume(check))
            else:
                server = Server(check, self._resume(check))
            self.servers[check.row] = server
        for gone in old.values():
            gone.stop()
        self.ordered = b""
        self.look()

    def look(self) -> None:
        """Whether the operator has other orders: stop and start checks, count who is usable."""
        ordered = bytes(self.segment.shared.orders)
        if ordered == self.ordered:
            return
        self.ordered = ordered
        start = []
        for server in self.servers.values():
            if self.segment.shared.orders[server.check.row].state == MAINT:
                self._rest(server)
            elif server.check.enabled and server.task is None:
                start.append(server)
        for number, server in enumerate(start):
            server.task = asyncio.create_task(self._watch(server, number, (number + 1) / len(start)))
        before = self.usable
        self.usable = Usable(self.segment, (server.check for server in self.servers.values()))
        groups = {server.check.group for server in self.servers.values()}
        for group in sorted(groups & (before.failing_open ^ self.usable.failing_open)):
            self._tell_group(group)

    def _rest(self, server: Server) -> None:
        """In maintenance: the verdict is taken back now, so that it is not what stands when the server comes back."""
        server.stop()
        if server.check.enabled and not (
            server.judge.state == INITIAL and self.segment.verdicts[server.check.row].waits
        ):
            server.judge = self._anew(server.check)

    # -- checks -------------------------------------------------------------------------------------------------------

    async def _watch(self, server: Server, number: int, share: float) -> None:
        """Check one server for ever: the first time within a second of the start, the second half an interval to an
        interval later by its `share`, which spreads the servers, then every interval.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + number / SERVERS
        interval = server.check.interval
        step = interval * (0.5 + 0.5 * share)
        while True:
            await asyncio.sleep(due - loop.time())
            await self._check(server)
            due += step
            step = interval
            due += max(0.0, loop.time() - due) // step * step

    async def _check(self, server: Server) -> None:
        check = server.check
        async with self.places:
            try:
                failure = await _TYPES[check.type](check.target, check.connect_timeout, check.header)
            except NotMadeError as error:
                self._tell_not_made(str(error))
                return
            except Exception as error:  # noqa: BLE001 - one server that cannot be checked must not stop the others
                self._tell_not_made(repr(error))
                return
        self.judged(server, failure)

    def judged(self, server: Server, failure: Failure | None) -> None:
        """What a check's result means for the server and for its group: into the segment, and into the event log."""
        check, judge = server.check, server.judge
        reason = judge.reason
        changed = judge.success() if failure is None else judge.failure(failure.reason)
        if changed:
            before = self.usable.fails_open(check.group)
            self._write(check, judge)
            self.usable.update(check)
            self._tell(check, failure)
            if self.usable.fails_open(check.group) != before:
                self._tell_group(check.group)
        elif judge.reason != reason:
            self.segment.verdicts[check.row].reason = REASONS.index(judge.reason)

    def _tell(self, check: Check, failure: Failure | None) -> None:
        who = {"group": check.group, "server": check.server, "address": check.address}
        if check.target != check.address:
            who["checked"] = check.target
        if failure is None:
            self.events.event("info", "server_available", **who)
        else:
            self.events.event("warning", "server_unhealthy", **who, reason=failure.reason, error=failure.error)

    def _tell_group(self, group: str) -> None:
        level, event = ("error", "group_fail_open") if self.usable.fails_open(group) else ("info", "group_recovered")
        self.events.event(level, event, group=group)

    def _tell_not_made(self, error: str) -> None:
        """Once in a while: where one descriptor is missing, thousands are."""
        self.not_made += 1
        if time.monotonic() >= self.tell_after:
            self.events.event("error", "health_check_not_made", error=error, count=self.not_made)
            self.tell_after = time.monotonic() + _TOLD_EVERY
            self.not_made = 0


def _places() -> int:
    """How many sockets there may be at once. Only servers that do not answer hold one for long, and they must not hold
    up the checks of the others: so as many as this process can have descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, hard - _RESERVED)


def run(orders: Orders) -> None:
    """Check until the control socket ends."""
    events = EventLog(orders.events, orders.level, orders.format)
    with socket.socket(fileno=orders.control) as control:
        control.setblocking(False)
        asyncio.run(Prober(Segment(orders.segment), read_checks(orders.checks), events).run(control))
