"""What the prober does: check every server in its turn, write the verdict, tell every change.

A task a server. Due times lie on a grid of the server's own on the monotonic clock: the grids are spread over the
interval, and a prober that was held up (a stopped machine) leaves out what it missed and comes back to them, so that
thousands of servers are never checked in one burst. A task waits for its check, so two checks of a server never overlap.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own, with nothing but checks to wait for
import errno
import os
import resource
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from nlbcore.observe.log import EventLog
from nlbcore.pool.health import Judge, Usable
from nlbcore.segment import INITIAL, REASONS, SERVERS, Segment

if TYPE_CHECKING:
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


async def tcp(target: Endpoint, limit: float) -> Failure | None:
    """Connect within `limit` seconds, then reset, as NLB does: the server sees a connection and its reset.

    Raises:
        NotMadeError: this machine lacks something
    """
    try:
        address = target.sockaddr()
        with socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            try:
                async with asyncio.timeout(limit):
                    await _connect(sock, address)
            except TimeoutError:
                if not _has_peer(sock):  # else it was this process that was late
                    return Failure("CONNECT_TIMEOUT", "connection timed out")
            if _met_itself(sock):
                return Failure("CONNECT_FAILED", "connection refused")
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


class Prober:
    """Checks servers, writes verdicts."""

    def __init__(self, segment: Segment, checks: list[Check], events: EventLog) -> None:
        self.segment = segment
        self.events = events
        self.checks = checks
        self.judges = [self._resume(check) for check in checks]
        self.usable = Usable((check, judge.state) for check, judge in zip(checks, self.judges, strict=True))
        self.places = asyncio.Semaphore(_places())
        self.not_made = 0
        self.tell_after = 0.0

    def _resume(self, check: Check) -> Judge:
        verdict = self.segment.verdicts[check.row]
        known = verdict.reason < len(REASONS)  # a worker that has been taken over may have written it
        judge = Judge.resume(check, verdict.state if known else INITIAL, REASONS[verdict.reason] if known else "")
        if judge.state != verdict.state or not verdict.since_ms:
            self._write(check, judge, _now())
        return judge

    def _write(self, check: Check, judge: Judge, since: int) -> None:
        """The state last: workers act on it."""
        verdict = self.segment.verdicts[check.row]
        verdict.since_ms = since
        verdict.reason = REASONS.index(judge.reason)
        verdict.state = judge.state

    async def run(self, control: socket.socket) -> None:
        """Until the control socket ends."""
        loop = asyncio.get_running_loop()
        checked = [pair for pair in zip(self.checks, self.judges, strict=True) if pair[0].enabled]
        tasks = [
            asyncio.create_task(self._watch(check, judge, number, (number + 1) / len(checked)))
            for number, (check, judge) in enumerate(checked)
        ]
        try:
            await loop.sock_sendall(control, b"R")
            while await loop.sock_recv(control, 64):
                pass
        except ConnectionError:
            pass  # the supervisor did not close its end but died
        for task in tasks:
            task.cancel()

    async def _watch(self, check: Check, judge: Judge, number: int, share: float) -> None:
        """Check one server for ever: the first time within a second of the start, the second half an interval to an
        interval later by its `share`, which spreads the servers, then every interval.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + number / SERVERS
        step = check.interval * (0.5 + 0.5 * share)
        while True:
            await asyncio.sleep(due - loop.time())
            await self._check(check, judge)
            due += step
            step = check.interval
            due += max(0.0, loop.time() - due) // step * step

    async def _check(self, check: Check, judge: Judge) -> None:
        async with self.places:
            try:
                failure = await _TYPES[check.type](check.target, check.connect_timeout)
            except NotMadeError as error:
                self._tell_not_made(str(error))
                return
            except Exception as error:  # noqa: BLE001 - one server that cannot be checked must not stop the others
                self._tell_not_made(repr(error))
                return
        self.judged(check, judge, failure)

    def judged(self, check: Check, judge: Judge, failure: Failure | None) -> None:
        """What a check's result means for the server and for its group: into the segment, and into the event log."""
        state, reason = judge.state, judge.reason
        changed = judge.success() if failure is None else judge.failure(failure.reason)
        if changed:
            self._write(check, judge, _now())
            self._tell(check, failure)
            self._tell_group(check, state, judge.state)
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

    def _tell_group(self, check: Check, before: int, after: int) -> None:
        fails_open = self.usable.change(check, before, after)
        if fails_open is not None:
            level, event = ("error", "group_fail_open") if fails_open else ("info", "group_recovered")
            self.events.event(level, event, group=check.group)

    def _tell_not_made(self, error: str) -> None:
        """Once in a while: where one descriptor is missing, thousands are."""
        self.not_made += 1
        if time.monotonic() >= self.tell_after:
            self.events.event("error", "health_check_not_made", error=error, count=self.not_made)
            self.tell_after = time.monotonic() + _TOLD_EVERY
            self.not_made = 0


def _now() -> int:
    return time.time_ns() // 1_000_000


def _places() -> int:
    """How many sockets there may be at once. Only servers that do not answer hold one for long, and they must not hold
    up the checks of the others: so as many as this process can have descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, hard - _RESERVED)


def run(segment: int, control: int, events: int, level: str, checks: list[Check]) -> None:
    """Check until the control socket ends; the arguments are those of the prober's orders."""
    with socket.socket(fileno=control) as ending:
        ending.setblocking(False)
        asyncio.run(Prober(Segment(segment), checks, EventLog(events, level)).run(ending))
