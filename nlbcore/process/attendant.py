"""A helper process of the supervisor that is started with fork and **exec**: log writer, prober.

It gets a fresh interpreter and only the descriptors it needs, so it has no key in its memory; and one end of a control
socket: a byte on it says that it is ready, its end is the order to finish. One that dies is started again, with back-off.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from nlbcore.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from nlbcore.observe.log import EventLog

    class Orders(Protocol):
        """What it is started with."""

        @property
        def inherited(self) -> tuple[int, ...]: ...
        def command(self) -> list[str]: ...


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What is meant for the supervisor, also when it is sent to the whole group; attendants ignore it."""
DELAYS = (0.1, 1.0, 5.0, 30.0)
"""Seconds before it is started again; one that has lived for longer than the last begins anew."""


def ignore_signals() -> None:
    """In the attendant, as soon as it runs: it ends when its control socket does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Attendant:
    """One such process.

    Args:
        name: for the event log, as in `log_writer`
        orders: makes its orders, given the descriptor of its end of the control socket
        events: the event log
    """

    def __init__(self, name: str, orders: Callable[[int], Orders], events: EventLog) -> None:
        self.name = name
        self.restarts = 0
        self._orders = orders
        self._events = events
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._started = 0.0
        self._failures = 0
        self._due = 0.0

    @property
    def pid(self) -> int:
        """0 while it has none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it; `await_ready()` hears from it when it is ready.

        Raises:
            OSError: no process could be made
        """
        self._started = time.monotonic()
        ours, theirs = socket.socketpair()
        with theirs:
            orders = self._orders(theirs.fileno())
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it has its own way with them
            try:
                self._process = subprocess.Popen(orders.command(), pass_fds=orders.inherited, stdin=subprocess.DEVNULL)
            except OSError:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._control = ours

    def await_ready(self, seconds: float) -> None:
        """Wait for its first word.

        Raises:
            StartError: it did not come
        """
        assert self._control is not None
        self._control.settimeout(seconds)
        try:
            ready = self._control.recv(1)
        except TimeoutError:
            ready = b""
        if not ready:
            raise StartError(f"the {self.name.replace('_', ' ')} did not start; what it printed stands above")

    def tick(self, now: float) -> None:
        """Note that it has died; start it again when it is time."""
        if self._process is None:
            if now >= self._due:
                self._restart(now)
        elif (status := self._process.poll()) is not None:
            self._drop()
            if now - self._started > DELAYS[-1]:
                self._failures = 0
            reason = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self._events.event("error", f"{self.name}_died", reason=reason, restart_in=f"{self._put_off(now):g}s")

    def revive(self) -> None:
        """Start it now if it has died: there is work left for it, and no time to wait."""
        if self._process is not None and self._process.poll() is not None:
            self._drop()
        if self._process is None:
            self._restart(time.monotonic())

    def _restart(self, now: float) -> None:
        try:
            self.start()
        except OSError as error:
            self._put_off(now)
            self._events.event("error", f"{self.name}_not_started", error=error.strerror)
        else:
            self.restarts += 1
            self._events.event("info", f"{self.name}_started", pid=self.pid)

    def _put_off(self, now: float) -> float:
        delay = DELAYS[min(self._failures, len(DELAYS) - 1)]
        self._failures += 1
        self._due = now + delay
        return delay

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
        self._process = self._control = None

    def finish(self) -> None:
        """Tell it to; `close()` waits for it."""
        if self._control is not None:
            self._control.close()

    def close(self, seconds: float) -> None:
        """Let it finish; one that does not (its reader is stuck) is killed."""
        if self._process is None:
            return
        process = self._process
        self.finish()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._drop()
