"""The supervisor: starts everything, waits, stops everything. One thread; it never reads what a client sent.

Start: the checker reads and judges the configuration and hands over generation 1, sealed; what is doubtful is logged;
addresses are bound, the segment, the facts and the blank front contexts made, the attendants executed, the heap frozen, the
workers forked (`fleet`). Then it is ready, and waits: for signals, for what workers say, for the control socket, for
time. A signal handler only queues, through the wakeup descriptor; the work is done in the main loop, by methods named
after the signal. Everything in the selector has a function of its event mask as its data.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import setproctitle

from nlbcore import __version__
from nlbcore.control.handlers import by_verb
from nlbcore.control.server import ControlServer
from nlbcore.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_PERMISSION, ConfigError, NlbError, StartError
from nlbcore.facts import Facts
from nlbcore.process import activation, checker, limits, pidfile
from nlbcore.process.expiry import Expiry
from nlbcore.process.fleet import HANDLED, Fleet
from nlbcore.process.household import Household
from nlbcore.process.logs import Logs
from nlbcore.process.notify import Notifier
from nlbcore.process.places import Places
from nlbcore.process.processors import processes
from nlbcore.process.publisher import Publisher
from nlbcore.process.reload import Means
from nlbcore.process.reloads import Reloads, tell
from nlbcore.process.slot import State
from nlbcore.process.snapshot import Limits, Snapshot
from nlbcore.process.sockets import Address
from nlbcore.process.upgrade import Predecessor, Upgrades
from nlbcore.process.verbs import verbs
from nlbcore.segment import GROUPS, LISTENERS, SERVERS, Segment
from nlbcore.tls.context import blank

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from nlbcore.config.finding import Finding

SPARE_FRONTS = 32
"""Blank front contexts beside those of the first listeners: a listener that a reload adds takes one. They must be made
before the first fork, so that a session ticket of one worker is good at every other, and after a restart."""
TICK = 0.25
"""Seconds between two looks at hearts and deadlines."""
KILL_AFTER = 3.0
"""Seconds that attendants may take to finish."""
WARN_EVERY = 60.0
"""Seconds between two looks at the dates of certificates and revocation lists."""


def run(path: Path) -> int:
    """`nlb run`: serve the configuration at `path` until a signal says stop.

    Returns:
        0 after an orderly stop, 1 when a worker failed meanwhile
    Raises:
        ConfigError: it has errors (exit code 78, or 77 if all are files that may not be read or written); each was
            printed on stderr
        StartError: an address cannot be bound, a log not opened, a worker not started
    """
    began = time.time()
    predecessor = Predecessor.from_environment(os.environ)
    checked = checker.check_apart(path, generation=1)
    if checked.sealed is None:
        for finding in checked.findings:
            print(finding, file=sys.stderr)
        denied = all(finding.denied for finding in checked.findings if finding.severity == "error")
        code = EXIT_PERMISSION if denied else EXIT_CONFIG
        raise ConfigError(f"{path}: not started, the configuration has errors", checked.findings, code)
    return Supervisor(path, checked.sealed, checked.findings, began, predecessor).run()


class Supervisor:
    """Everything that one `nlb run` holds.

    Args:
        path: the configuration
        sealed: generation 1 as a memfd
        warnings: what the checker found doubtful
        began: when it began to read the files, Unix seconds
        predecessor: the supervisor that this one is to replace
    """

    def __init__(
        self,
        path: Path,
        sealed: int,
        warnings: Iterable[Finding] = (),
        began: float = 0.0,
        predecessor: Predecessor | None = None,
    ) -> None:
        self.path = path.absolute()
        self.sealed = sealed
        self.warnings = warnings
        self.read_at = began or time.time()
        self.predecessor = predecessor
        self.first = first = Snapshot.unseal(sealed)
        self.workers = processes(first.config.node)
        self.slots = max(self.workers, predecessor.slots if predecessor is not None else 0)
        self.addresses: dict[str, Address] = {}
        self.selector = selectors.DefaultSelector()
        self.logs: Logs
        self.fleet: Fleet
        self.household: Household
        self.control: ControlServer
        self.ending = contextlib.ExitStack()
        """What the end has to undo, however far the start came."""
        self.notifier = Notifier()
        self.expiry = Expiry()
        self.draining = False
        self.deadline: float | None = None
        self.to_add = 0
        """Workers that were asked for (TTIN), or fewer (TTOU)."""
        self.upgrades = Upgrades(self)
        self.reloads: Reloads
        self.told = ""
        self.told_at = 0.0
        self.warn_at = math.inf

    @property
    def snapshot(self) -> Snapshot:
        """The generation in force."""
        return self.fleet.snapshot

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
            self.household.finish()
        failed = EXIT_FAILED if self.fleet.failed else 0
        self.logs.events.event("info", "stopped", status=failed)
        return failed

    # -- start --------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """What can fail for reasons of the machine, before anything runs."""
        config = self.first.config
        limits.count_sockets(config, self.slots)
        self.logs = Logs(config.log)
        limits.raise_descriptors()
        before = self.predecessor
        same = before is not None and before.control_socket == str(config.node.control_socket)
        lock = before.lock if before is not None and same else None
        self.control = ControlServer(config.node.control_socket, by_verb(verbs(self)), self._kin, lock=lock)
        self.ending.callback(self.control.close)
        self.ending.callback(self._close_sockets)
        activated = activation.inherited(os.environ)
        for listener in config.listeners.values():
            for endpoint in listener.bind:
                name = str(endpoint)
                if before is not None and name in before.sockets:
                    self.addresses[name] = Address.inherit(endpoint, before.sockets.pop(name), self.slots)
                else:
                    self.addresses[name] = Address.bind(endpoint, self.slots, activated)
                    self.addresses[name].listen()
        self.segment = Segment.create()
        self.facts = Facts.create()
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.places = Places(self.segment, self.first)
        for finding in self.warnings:
            tell(self.logs.events, finding)

    def _assemble(self) -> None:
        """Everything that works together, before any of it runs."""
        listeners = min(LISTENERS, len(self.first.config.listeners) + SPARE_FRONTS)
        fronts = [blank() for _ in range(listeners)]
        events = self.logs.events
        self.fleet = Fleet(
            self.workers,
            self.addresses,
            self.segment,
            self.eventfd,
            fronts,
            events,
            self.selector,
            retired=self.slots - self.workers,
        )
        self.fleet.enforce(self.first, self.sealed)
        self.household = Household(
            self.fleet,
            self.segment,
            self.facts,
            self.eventfd,
            self.logs,
            self.selector,
            self.path,
            self.read_at,
            self.predecessor.listening(self.first.config.node.admin) if self.predecessor is not None else None,
        )
        self.publisher = Publisher(
            self.facts,
            os.getpid(),
            self.fleet,
            self.household.attendants,
            lambda: "draining" if self.draining else "running" if self.fleet.serving else "starting",
            lambda: {"reload": self.reloads.last, "reloads": dict(self.reloads.count)},
        )
        means = Means(
            path=self.path,
            limits=Limits(listeners, GROUPS, SERVERS),
            fleet=self.fleet,
            logs=self.logs,
            places=self.places,
            selector=self.selector,
            decided=self.publisher.publish,  # the log writer must know the names of what is served
            enforced=self._on_enforced,
        )
        self.reloads = Reloads(
            means,
            events,
            may_begin=lambda: self.fleet.serving and not self.upgrades.on_the_way,
            begun=lambda: self.notifier.reloading("reloading"),
            told=self._on_reloaded,
        )
        self.household.changed = lambda: self.reloads.ask("watch")

    def _start(self) -> None:
        self._watch_signals()
        self._assemble()
        self.publisher.tick()
        self.ending.callback(self.household.close, KILL_AFTER)
        self.household.start()
        self.ending.callback(self.fleet.kill)
        gc.collect()
        gc.freeze()
        self.fleet.start(self.first, self.sealed)
        del self.first  # the fleet has the generation in force: this one's keys and lists go when it is succeeded
        while not (self.fleet.serving and self.household.ready):
            self._turn()
            if self.draining:
                return
        if self.predecessor is not None:
            self.predecessor.replaced(self._take_over)
        self.write_pid()
        self.control.register(self.selector)
        self._tell_expiry()
        self.logs.events.event(
            "info",
            "ready",
            generation=self.snapshot.generation,
            listeners=len(self.snapshot.rows.listeners),
            servers=len(self.snapshot.rows.servers),
            workers=self.workers,
            version=__version__,
            pid=os.getpid(),
        )
        self.publisher.tick()
        self.notifier.ready(self._status_line())

    def _take_over(self) -> None:
        """From the predecessor: it is the balancer until now."""
        assert self.predecessor is not None
        if self.predecessor.control_socket == str(self.control.path):
            self.control.take_over()
        else:
            os.close(self.predecessor.lock)
        for address in self.addresses.values():
            address.own()
        self.household.take_over()

    def write_pid(self) -> None:
        """That we are the balancer."""
        path = self.snapshot.config.node.pid_file
        if path is not None:
            pidfile.write(path)
            self.ending.callback(pidfile.remove, path)

    def _watch_signals(self) -> None:
        read, self.wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, _noted)
        self.selector.register(read, selectors.EVENT_READ, lambda _mask: self._on_signals(read))

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
        self._resize()
        self.reloads.tick(now)
        self.upgrades.tick(now)
        self.control.expire()
        self.household.tick(now)
        self.publisher.tick()
        self._tell_systemd(now)
        if now >= self.warn_at:
            self._warn()
        if self.draining and self.fleet.drained:
            self._close_sockets()
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._after_deadline()

    def _tell_systemd(self, now: float) -> None:
        """That we live, if those who serve do: one slot at least has a worker, and none has one that hangs."""
        self.notifier.flush()
        line = self._status_line()
        if line != self.told and self.fleet.serving and not self.draining:
            self.told = line
            self.notifier.status(line)
        interval = self.notifier.interval
        if interval is None or now < self.told_at + min(interval, 10.0) or not self.fleet.serving:
            return
        states = {slot.state for slot in self.fleet.slots}
        if State.RUNNING in states and State.STUCK not in states:
            self.notifier.watchdog()
            self.told_at = now

    def _status_line(self) -> str:
        workers = sum(slot.state is State.RUNNING for slot in self.fleet.slots)
        return f"generation {self.snapshot.generation}, {workers} of {self.workers} workers running"

    def _tell_expiry(self) -> None:
        facts = self.publisher.current
        self.expiry.watch(facts["certificates"], facts["crls"])
        self._warn()

    def _warn(self) -> None:
        self.warn_at = time.monotonic() + WARN_EVERY
        for level, event, fields in self.expiry.due(time.time()):
            self.logs.events.event(level, event, **fields)

    # -- signals ------------------------------------------------------------------------------------------------------

    def _on_signals(self, pipe: int) -> None:
        for number in os.read(pipe, 512):
            getattr(self, f"_on_{signal.Signals(number).name.lower()}")()

    def _on_sigchld(self) -> None:
        self.fleet.reap()
        checker.Checker.reap()

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

    def _on_sighup(self) -> None:
        self.reloads.ask("signal")

    def _on_sigusr1(self) -> None:
        self.logs.reopen()
        self.household.renew()

    def _on_sigusr2(self) -> None:
        if not self.draining and self.fleet.serving:
            self.upgrades.ask()

    def _on_sigttin(self) -> None:
        self.to_add += 1

    def _on_sigttou(self) -> None:
        self.to_add -= 1

    def _resize(self) -> None:
        """One worker more or fewer, as was asked for; not while a generation is on its way to those there are."""
        if not self.to_add or self.draining or not self.fleet.serving or self.fleet.rollout is not None:
            return
        events = self.logs.events
        if self.to_add < 0:
            self.to_add += 1
            slot = self.fleet.shrink(self.snapshot.config.node.drain_timeout)
            if slot is None:
                events.event("warning", "worker_not_removed", reason="it is the only one")
            else:
                events.event("info", "worker_removed", worker=slot.number)
            return
        self.to_add -= 1
        try:
            self.fleet.grow()
        except (NlbError, OSError) as error:
            events.event("error", "worker_not_added", error=str(error))
        else:
            events.event("info", "worker_added", slots=len(self.fleet.slots))

    def _on_enforced(self, read_at: float) -> None:
        """All workers serve a new generation."""
        self.household.told(self.snapshot, read_at)
        workers = processes(self.snapshot.config.node)
        if workers != self.workers:
            self.to_add = workers - sum(slot.state not in (State.RETIRING, State.RETIRED) for slot in self.fleet.slots)
            self.workers = workers

    def _on_reloaded(self) -> None:
        """Once for each reload, however it went."""
        self.publisher.publish()
        self._tell_expiry()
        if not self.draining:
            self.notifier.ready(self._status_line())
        self.upgrades.go_on()

    # -- stop ---------------------------------------------------------------------------------------------------------

    def _begin_to_stop(self) -> None:
        self.draining = True
        node = self.snapshot.config.node
        self.notifier.stopping("draining")
        self.logs.events.event("info", "stopping", drain_timeout=f"{node.drain_timeout:g}s")
        self.reloads.stop("the balancer is stopping")
        self.upgrades.stop("the balancer stops")
        self.deadline = time.monotonic() + node.shutdown_delay
        self._after_deadline = self._drain

    def _drain(self) -> None:
        self.fleet.drain()
        self.deadline = time.monotonic() + self.snapshot.config.node.drain_timeout
        self._after_deadline = self._stop_now

    def _stop_now(self) -> None:
        self.deadline = None
        self.fleet.stop()
        self._close_sockets()

    def succeeded(self) -> None:
        """Another supervisor is the balancer from now on: accept no more, and end when the last connection has."""
        self.reloads.stop("the balancer was upgraded meanwhile: ask again")
        self.notifier.silence()
        self.control.hand_over()
        self.publisher.succeeded()
        self.household.dismiss()
        for address in self.addresses.values():
            address.disown()
        self.draining = True
        self._drain()

    def stop(self, *, now: bool) -> None:
        """As an order of the control socket."""
        if not self.draining:
            self._begin_to_stop()
        if now:
            self._stop_now()

    def _kin(self) -> set[int]:
        """Our own children: they read what strangers send, and may not give orders."""
        return self.fleet.pids | self.household.pids | self.reloads.pids

    # -- end ----------------------------------------------------------------------------------------------------------

    def _close_sockets(self) -> None:
        while self.addresses:
            self.addresses.popitem()[1].close()


def _noted(number: int, frame: FrameType | None) -> None:
    """The signal's number is in the wakeup pipe already."""


def _start_error(error: OSError) -> StartError:
    hint = "; raise the limit: LimitNOFILE= of the service, or ulimit -n" if error.errno == errno.EMFILE else ""
    return StartError(f"cannot start: {(error.strerror or str(error)).lower()}{hint}")
