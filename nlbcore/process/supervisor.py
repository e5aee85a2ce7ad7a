"""The supervisor: starts everything, waits, stops everything. One thread; it never reads what a client sent.

Start: the checker reads and judges the configuration and hands over generation 1, sealed; what is doubtful is logged;
addresses are bound, the segment and the blank front contexts made, log writer and prober executed, the heap frozen, the
workers forked (`fleet`). Then it is ready, and waits: for signals, for what workers say, for the control socket, for
time. A signal handler only queues, through the wakeup descriptor; the work is done in the main loop, by methods named
after the signal. Everything in the selector has a function of its event mask as its data.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import setproctitle

from nlbcore import __version__
from nlbcore.control.handlers import CertificateView, CrlView, View, WorkerView, by_verb, status
from nlbcore.control.server import ControlServer
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, ConfigError, StartError
from nlbcore.observe.log import EventLog, open_target
from nlbcore.pool.health import checks
from nlbcore.process import checker, logwriter, prober, sockets
from nlbcore.process.attendant import Attendant
from nlbcore.process.fleet import SIGNALS, Fleet
from nlbcore.process.notify import Notifier
from nlbcore.process.processors import processors
from nlbcore.process.snapshot import Snapshot
from nlbcore.segment import LISTENERS, SERVERS, Segment
from nlbcore.tls.context import blank

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from types import FrameType

    from OpenSSL import SSL

    from nlbcore.config.finding import Finding

ACCEPTORS = 16384
"""Listening sockets that a worker can watch (``engine/listener``)."""
SPARE_FRONTS = 32
"""Blank front contexts beside those of the first listeners: a listener that a reload adds takes one. They must be made
before the first fork, so that a session ticket of one worker is good at every other, and after a restart."""
TICK = 0.25
"""Seconds between two looks at hearts and deadlines."""
READY_TIMEOUT = 30.0
"""Seconds that log writer and prober may take to start."""
KILL_AFTER = 3.0
"""Seconds that they may take to finish."""


def run(path: Path) -> int:
    """`nlb run`: serve the configuration at `path` until a signal says stop.

    Returns:
        0 after an orderly stop, 1 when a worker failed meanwhile
    Raises:
        ConfigError: it has errors (exit code 78); each was printed on stderr
        StartError: an address cannot be bound, a log not opened, a worker not started
    """
    checked = checker.check_apart(path, generation=1)
    if checked.sealed is None:
        for finding in checked.findings:
            print(finding, file=sys.stderr)
        raise ConfigError(f"{path}: not started, the configuration has errors", checked.findings)
    return Supervisor(checked.sealed, checked.findings).run()


class Supervisor:
    """Everything that one `nlb run` holds.

    Args:
        sealed: generation 1 as a memfd
        warnings: what the checker found doubtful
    """

    def __init__(self, sealed: int, warnings: Iterable[Finding] = ()) -> None:
        self.sealed = sealed
        self.snapshot = Snapshot.unseal(sealed)
        self.config = self.snapshot.config
        self.warnings = warnings
        self.workers = processors() if self.config.node.workers == "auto" else self.config.node.workers
        self.started = time.time()
        self.listening: dict[str, list[list[socket.socket]]] = {}
        self.paths: dict[Path, tuple[int, int]] = {}
        """The Unix sockets among them, which have names to remove."""
        self.selector = selectors.DefaultSelector()
        self.attendants: list[Attendant] = []
        self.fleet: Fleet
        self.control: ControlServer
        self.ending = contextlib.ExitStack()
        """What the end has to undo, however far the start came."""
        self.notifier = Notifier()
        self.draining = False
        self.deadline: float | None = None

    def run(self) -> int:
        setproctitle.setproctitle("nlb: supervisor")
        with self.ending:
            try:
                self._open()
                self._start()
            except OSError as error:
                raise _start_error(error) from None
            while not self.fleet.ended:
                self._turn()
            self.attendants[0].revive()  # the log writer has what the last connections left to write
            for attendant in self.attendants:
                attendant.finish()
        failed = EXIT_FAILED if self.fleet.failed else 0
        self.events.event("info", "stopped", status=failed)
        return failed

    # -- start --------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """What can fail for reasons of the machine, before anything runs."""
        rows = self.snapshot.rows
        if len(rows.listeners) > LISTENERS or len(rows.servers) > SERVERS:
            raise StartError(f"more than {LISTENERS} listeners or {SERVERS} servers")
        self._count_sockets()
        self.events = EventLog(_open_log(self.config.log.file), self.config.log.level)
        self.access = -1 if self.config.log.access == "off" else _open_log(self.config.log.access)
        _raise_descriptor_limit()
        handlers = {"status": lambda _arguments: status(self._view()), "stop": self._stop}
        self.control = ControlServer(self.config.node.control_socket, by_verb(handlers), self._kin)
        self.ending.callback(self.control.close)
        self.ending.callback(self._close_sockets)
        for name, listener in self.config.listeners.items():
            self.listening[name] = []
            for endpoint in listener.bind:
                self.listening[name].append(sockets.listen(endpoint, self.workers))
                if endpoint.path is not None:
                    self.paths[Path(endpoint.path)] = sockets.inode(endpoint.path)
        self.segment = Segment.create(self.workers)
        self.segment.write_directory(rows.directory(self.config.node.name))
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.checks = prober.checks_memfd(checks(self.config, rows.servers))
        for finding in self.warnings:
            place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
            self.events.event("warning", "configuration", at=place, key=finding.key, message=finding.message)

    def _count_sockets(self) -> None:
        """Any worker may have to watch the sockets of all slots."""
        addresses = sum(len(listener.bind) for listener in self.config.listeners.values())
        if addresses * self.workers > ACCEPTORS:
            raise StartError(
                f"{addresses} addresses for {self.workers} workers are {addresses * self.workers} listening sockets, "
                f"more than {ACCEPTORS}: give fewer addresses, or fewer workers ([node] workers)"
            )

    def _start(self) -> None:
        self._watch_signals()
        self.attendants = [
            Attendant("log_writer", self._logwriter_orders, self.events),
            Attendant("prober", self._prober_orders, self.events),
        ]
        for attendant in self.attendants:
            attendant.start()
            self.ending.callback(attendant.close, KILL_AFTER)
        self.fleet = Fleet(
            self.workers, self.listening, self.segment, self.eventfd, self._fronts(), self.events, self.selector
        )
        self.ending.callback(self.fleet.kill)
        gc.collect()
        gc.freeze()
        self.fleet.start(self.snapshot, self.sealed)
        for attendant in self.attendants:
            attendant.await_ready(READY_TIMEOUT)
        while not self.fleet.serving:
            self._turn()
            if self.draining:
                return
        self.control.register(self.selector)
        self.events.event(
            "info",
            "ready",
            generation=self.snapshot.generation,
            listeners=len(self.snapshot.rows.listeners),
            servers=len(self.snapshot.rows.servers),
            workers=self.workers,
            version=__version__,
            pid=os.getpid(),
        )
        self.notifier.ready(f"generation {self.snapshot.generation}, {self.workers} workers")

    def _fronts(self) -> dict[str, SSL.Context]:
        """A blank front context for each TLS listener, and the spare ones, which fork hands on too."""
        names = [name for name, listener in self.config.listeners.items() if listener.protocol == "TCPSSL"]
        self.spare_fronts = [blank() for _ in range(SPARE_FRONTS)]
        return {name: blank() for name in names}

    def _watch_signals(self) -> None:
        read, self.wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _noted)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # of features that are not built yet
            signal.signal(number, signal.SIG_IGN)
        self.selector.register(read, selectors.EVENT_READ, lambda _mask: self._on_signals(read))

    def _logwriter_orders(self, control: int) -> logwriter.Orders:
        return logwriter.Orders(
            self.segment.fd, self.eventfd, control, self.access, self.events.fd, self.config.log.level
        )

    def _prober_orders(self, control: int) -> prober.Orders:
        return prober.Orders(
            segment=self.segment.fd,
            control=control,
            checks=self.checks,
            events=self.events.fd,
            level=self.config.log.level,
        )

    # -- the main loop ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = time.monotonic()
        wait = min(TICK, self.fleet.patience())
        if self.deadline is not None:
            wait = max(0.0, min(wait, self.deadline - now))
        for key, mask in self.selector.select(wait):
            if self.selector.get_map().get(key.fd) is key:  # an earlier one of this round may have closed it
                key.data(mask)
        now = time.monotonic()
        self.fleet.tick()
        self.control.expire()
        for attendant in self.attendants:
            attendant.tick(now)
        if self.draining and self.fleet.drained:
            self._close_sockets()
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._after_deadline()

    def _on_signals(self, pipe: int) -> None:
        for number in os.read(pipe, 512):
            getattr(self, f"_on_{signal.Signals(number).name.lower()}")()

    def _on_sigchld(self) -> None:
        self.fleet.reap()

    def _on_sigterm(self) -> None:
        """Stop: at once when asked a second time."""
        if self.draining:
            self._stop_now()
        else:
            self._begin_to_stop()

    _on_sigint = _on_sigterm

    def _on_sigquit(self) -> None:
        if not self.draining:
            self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        self.draining = True
        self.notifier.stopping("draining")
        self.events.event("info", "stopping", drain_timeout=f"{self.config.node.drain_timeout:g}s")
        self.deadline = time.monotonic() + self.config.node.shutdown_delay
        self._after_deadline = self._drain

    def _drain(self) -> None:
        self.fleet.drain()
        self.deadline = time.monotonic() + self.config.node.drain_timeout
        self._after_deadline = self._stop_now

    def _stop_now(self) -> None:
        self.deadline = None
        self.fleet.stop()
        self._close_sockets()

    # -- the control socket -------------------------------------------------------------------------------------------

    def _kin(self) -> set[int]:
        """Our own children: they read what strangers send, and may not give orders."""
        return self.fleet.pids | {attendant.pid for attendant in self.attendants}

    def _stop(self, arguments: dict[str, Any]) -> None:
        """Answered by our end."""
        if not self.draining:
            self._begin_to_stop()
        if arguments.get("now"):
            self._stop_now()

    def _view(self) -> View:
        rows = self.snapshot.rows
        now = time.monotonic()
        return View(
            node=self.config.node.name,
            version=__version__,
            pid=os.getpid(),
            generation=self.snapshot.generation,
            started=self.started,
            state="draining" if self.draining else "running",
            config=self.config,
            listeners=rows.listeners,
            servers=rows.servers,
            segment=self.segment,
            workers=tuple(
                WorkerView(slot.number, slot.pid, slot.state, slot.restarts, time.time() - (now - slot.since))
                for slot in self.fleet.slots
            ),
            certificates=tuple(
                CertificateView(name, one.path, one.names, one.not_after)
                for name, material in self.snapshot.material.listeners.items()
                for one in material.certificates
            ),
            crls=tuple(
                CrlView(name, one.issuer, one.next_update)
                for name, material in self.snapshot.material.listeners.items()
                for one in material.lists
            ),
        )

    # -- end ----------------------------------------------------------------------------------------------------------

    def _close_sockets(self) -> None:
        while self.paths:
            sockets.remove(*self.paths.popitem())
        for addresses in self.listening.values():
            for slots in addresses:
                for sock in slots:
                    sock.close()


def _noted(number: int, frame: FrameType | None) -> None:
    """The signal's number is in the wakeup pipe already."""


def _start_error(error: OSError) -> StartError:
    hint = "; raise the limit: LimitNOFILE= of the service, or ulimit -n" if error.errno == errno.EMFILE else ""
    return StartError(f"cannot start: {(error.strerror or str(error)).lower()}{hint}")


def _open_log(target: str | Path) -> int:
    try:
        return open_target(target)
    except OSError as error:
        code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_FAILED
        raise StartError(f"cannot write the log {target}: {error.strerror}", code) from None


def _raise_descriptor_limit() -> None:
    """As many descriptors as we may have; each connection takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
