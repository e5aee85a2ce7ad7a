"""The supervisor: starts everything, waits, stops everything. One thread; it never reads what a client sent.

Before the fork: what is doubtful in the configuration is logged, listening sockets are bound, the segment and the blank
front contexts made, the log writer executed, the heap frozen. After the fork the worker has its channel and the
supervisor the other end; generation 1 goes to it as a sealed memfd by PREPARE and COMMIT. A signal handler only queues
(through the wakeup descriptor); the work is done by the main loop in methods named after the signal.

A worker that ends unasked stops the balancer with exit status 1: an honest end, until workers are started again.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import setproctitle

from nlbcore import __version__
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, ConfigError, StartError
from nlbcore.observe.log import EventLog, open_target
from nlbcore.process import sockets, worker
from nlbcore.process.channel import Channel, Message
from nlbcore.process.checker import rehearse
from nlbcore.process.logwriter import Orders
from nlbcore.process.snapshot import Rows, Snapshot
from nlbcore.segment import LISTENERS, SERVERS, Segment
from nlbcore.tls.context import blank

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from nlbcore.config.finding import Finding
    from nlbcore.config.model import Config
    from nlbcore.tls.material import Material

WORKERS = 1
START_TIMEOUT = 30.0
"""Seconds that a worker may take for its first generation."""
RESTART_AFTER = 1.0
"""Seconds that a log writer must have lived to be replaced when it dies."""
KILL_AFTER = 3.0
"""Seconds between the order to stop at once and SIGKILL."""
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@dataclass
class Process:
    """A worker as the supervisor knows it."""

    slot: int
    pid: int
    channel: Channel
    alive: bool = True
    drained: bool = False


def run(path: Path) -> int:
    """`nlb run`: serve the configuration at `path` until a signal says stop.

    Returns:
        0 after an orderly stop, 1 when a worker ended unasked
    Raises:
        ConfigError: it has errors (exit code 78); each was printed on stderr
        StartError: an address cannot be bound, a log not opened, a worker not started
    """
    rehearsal = rehearse(path)
    if rehearsal.loaded.config is None or rehearsal.material is None:
        for finding in rehearsal.findings:
            print(finding, file=sys.stderr)
        raise ConfigError(f"{path}: not started, the configuration has errors", rehearsal.findings)
    return Supervisor(rehearsal.loaded.config, rehearsal.material, rehearsal.warnings).run()


class Supervisor:
    """Everything that one `nlb run` holds."""

    def __init__(self, config: Config, material: Material, warnings: Iterable[Finding] = ()) -> None:
        self.config = config
        self.warnings = warnings
        self.rows = Rows.number(config)
        self.snapshot = Snapshot(1, config, material, self.rows)
        self.processes: list[Process] = []
        self.listening: dict[str, list[list[socket.socket]]] = {}
        self.logwriter: subprocess.Popen[bytes] | None = None
        self.selector = selectors.DefaultSelector()
        self.draining = False
        self.deadline: float | None = None
        self.status = 0

    def run(self) -> int:
        setproctitle.setproctitle("nlb: supervisor")
        self._open()
        try:
            self._start()
            while any(process.alive for process in self.processes):
                self._turn()
        finally:
            self._close()
        self.events.event("info", "stopped", status=self.status)
        return self.status

    # -- start --------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """What can fail for reasons of the machine, before anything runs."""
        if len(self.rows.listeners) > LISTENERS or len(self.rows.servers) > SERVERS:
            raise StartError(f"more than {LISTENERS} listeners or {SERVERS} servers")
        self.events = EventLog(_open_log(self.config.log.file), self.config.log.level)
        for finding in self.warnings:
            place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
            self.events.event("warning", "configuration", at=place, key=finding.key, message=finding.message)
        self.access = -1 if self.config.log.access == "off" else _open_log(self.config.log.access)
        _raise_descriptor_limit()
        for name, listener in self.config.listeners.items():
            self.listening[name] = [sockets.listen(endpoint, WORKERS) for endpoint in listener.bind]
        self.segment = Segment.create(WORKERS)
        self.segment.write_directory(self.rows.directory(self.config.node.name))
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.fronts = {name: blank() for name, item in self.config.listeners.items() if item.protocol == "TCPSSL"}

    def _start(self) -> None:
        self._watch_signals()
        self._start_logwriter()
        gc.collect()
        gc.freeze()
        for slot in range(WORKERS):
            self._start_worker(slot)
        for command, answer in (("PREPARE", "READY"), ("COMMIT", "DONE")):
            for process in self.processes:
                self._order(process, command, answer)
        self._await_logwriter()
        for process in self.processes:
            self.selector.register(process.channel, selectors.EVENT_READ, process)
        self.events.event(
            "info",
            "ready",
            generation=self.snapshot.generation,
            listeners=len(self.rows.listeners),
            servers=len(self.rows.servers),
            workers=WORKERS,
            version=__version__,
            pid=os.getpid(),
        )

    def _watch_signals(self) -> None:
        read, self.wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        for number in (*_STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, _noted)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # of features that are not built yet
            signal.signal(number, signal.SIG_IGN)
        self.selector.register(read, selectors.EVENT_READ)

    def _start_logwriter(self) -> None:
        """Start it; `_await_logwriter()` hears from it when it is ready to write."""
        self.logwriter_started = time.monotonic()
        self.control, theirs = socket.socketpair()
        with theirs:
            orders = Orders(
                self.segment.fd, self.eventfd, theirs.fileno(), self.access, self.events.fd, self.config.log.level
            )
            self.logwriter = subprocess.Popen(orders.command(), pass_fds=orders.inherited, stdin=subprocess.DEVNULL)

    def _await_logwriter(self) -> None:
        self.control.settimeout(START_TIMEOUT)
        try:
            ready = self.control.recv(1)
        except TimeoutError:
            ready = b""
        if not ready:
            raise StartError("the log writer did not start; what it printed stands above")

    def _start_worker(self, slot: int) -> None:
        ours, theirs = Channel.pair()
        inheritance = worker.Inheritance(
            slot=slot,
            channel=theirs,
            segment=self.segment,
            eventfd=self.eventfd,
            sockets={name: [slots[slot] for slots in addresses] for name, addresses in self.listening.items()},
            fronts=self.fronts,
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOP_SIGNALS, signal.SIGCHLD))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self.selector.close()
            ours.close()
            self.control.close()
            for process in self.processes:
                process.channel.close()
            worker.main(inheritance)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP_SIGNALS, signal.SIGCHLD))
        theirs.close()
        self.processes.append(Process(slot, pid, ours))

    def _order(self, process: Process, command: str, answer: str) -> None:
        """Give a starting worker an order and wait for the answer.

        Raises:
            StartError: it refused, died, or took too long
        """
        fd = self.snapshot.seal() if command == "PREPARE" else -1
        process.channel.send(Message(command, self.snapshot.generation, fd=fd))  # type: ignore[arg-type]
        if fd >= 0:
            os.close(fd)
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.channel, selectors.EVENT_READ)
            if not waiting.select(START_TIMEOUT):
                raise StartError(f"worker {process.slot} did not answer {command} within {START_TIMEOUT:.0f} s")
        reply = process.channel.receive()
        if reply is None:
            raise StartError(f"worker {process.slot} died at {command}")
        if reply.command != answer:
            raise StartError(f"worker {process.slot} cannot serve generation {reply.generation}: {reply.reason}")

    # -- the main loop ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        for key, _ in self.selector.select(left):
            if isinstance(key.data, Process):
                self._on_message(key.data)
            else:
                for number in os.read(key.fd, 512):
                    getattr(self, f"_on_{signal.Signals(number).name.lower()}")()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._on_deadline()

    def _on_sigterm(self) -> None:
        """Stop: at once when asked a second time."""
        if self.draining:
            self._stop_now()
            return
        self.draining = True
        self.events.event("info", "stopping", drain_timeout=f"{self.config.node.drain_timeout:g}s")
        self.deadline = time.monotonic() + self.config.node.shutdown_delay
        self._after_deadline = self._drain

    _on_sigint = _on_sigterm

    def _on_sigquit(self) -> None:
        if not self.draining:
            self._on_sigterm()

    def _on_sigchld(self) -> None:
        """Reap. A worker that ends while it is wanted takes the balancer with it."""
        for process in self.processes:
            if not process.alive:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid == 0:
                continue
            process.alive = False
            if process.channel.fileno() in self.selector.get_map():
                self.selector.unregister(process.channel)
            process.channel.close()
            code = os.waitstatus_to_exitcode(status)
            if code != 0 or not self.draining:
                reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                self.events.event("error", "worker_died", worker=process.slot, pid=pid, reason=reason)
                self.status = EXIT_FAILED
                self.draining = True
                self._stop_now()
        if self.logwriter is not None and self.logwriter.poll() is not None:
            self._replace_logwriter(self.logwriter.returncode)

    def _replace_logwriter(self, status: int) -> None:
        """Start another one, but not for ever: one that ends at once would end again. What the rings hold is kept."""
        self.events.event("error", "log_writer_died", status=status)
        self.control.close()
        self.logwriter = None
        if time.monotonic() - self.logwriter_started < RESTART_AFTER:
            self.events.event("error", "log_writer_given_up")
            return
        try:
            self._start_logwriter()
        except OSError as error:
            self.events.event("error", "log_writer_given_up", error=error.strerror)

    def _on_message(self, process: Process) -> None:
        """A worker has carried out DRAIN: nothing is queued for it any more. The last one closes the sockets."""
        message = process.channel.receive()
        if message is None:  # it has ended; SIGCHLD tells how
            self.selector.unregister(process.channel)
            return
        process.drained = True
        if all(process.drained for process in self.processes):
            self._close_sockets()

    def _on_deadline(self) -> None:
        self.deadline = None
        self._after_deadline()

    def _drain(self) -> None:
        self._order_all("DRAIN")
        self.deadline = time.monotonic() + self.config.node.drain_timeout
        self._after_deadline = self._stop_now

    def _stop_now(self) -> None:
        self._order_all("STOP")
        self._close_sockets()
        self.deadline = time.monotonic() + KILL_AFTER
        self._after_deadline = self._kill

    def _kill(self) -> None:
        for process in self.processes:
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)

    def _order_all(self, command: str) -> None:
        for process in self.processes:
            if process.alive:
                process.channel.send(Message(command))  # type: ignore[arg-type]

    # -- end ----------------------------------------------------------------------------------------------------------

    def _close_sockets(self) -> None:
        for addresses in self.listening.values():
            for slots in addresses:
                for sock in slots:
                    sock.close()

    def _close(self) -> None:
        """Leave nothing behind, also when the start failed half-way."""
        for process in self.processes:
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
        self._close_sockets()
        for listener in self.config.listeners.values():
            for endpoint in listener.bind:
                if endpoint.path is not None:
                    Path(endpoint.path).unlink(missing_ok=True)
        if self.logwriter is not None:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            try:
                self.logwriter.wait(KILL_AFTER)
            except subprocess.TimeoutExpired:  # its reader is stuck
                self.logwriter.kill()
                self.logwriter.wait()


def _noted(number: int, frame: FrameType | None) -> None:
    """The signal's number is in the wakeup pipe already."""


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
