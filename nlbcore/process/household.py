"""The household: the attendants of the supervisor, what each is started with, and when it gets new orders."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.pool.health import checks
from nlbcore.process import admin, census, logwriter, prober, watcher
from nlbcore.process.attendant import Attendant, close_all
from nlbcore.segment import HEARTS
from nlbcore.tls.folders import files_in, is_folder
from nlbcore.tls.pem import BadFile

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable
    from pathlib import Path

    from nlbcore.address import Endpoint
    from nlbcore.facts import Facts
    from nlbcore.process.fleet import Fleet
    from nlbcore.process.logs import Logs
    from nlbcore.process.snapshot import Snapshot
    from nlbcore.segment import Segment

_BACKLOG = 128
_PATIENCE = 1.0
"""Seconds for a watcher to end before another takes its place."""


class Household:
    """All attendants.

    Args:
        fleet: the workers, for the admin process's question who is connected
        segment: the shared segment
        facts: what is published
        eventfd: wakes the log writer
        logs: both
        selector: of the main loop
        path: the configuration
        read_at: when its files were read, Unix seconds
        listening: the admin process's socket of a predecessor

    Attributes:
        changed: called when the watcher has seen a change
    """

    def __init__(
        self,
        fleet: Fleet,
        segment: Segment,
        facts: Facts,
        eventfd: int,
        logs: Logs,
        selector: selectors.BaseSelector,
        path: Path,
        read_at: float,
        listening: socket.socket | None = None,
    ) -> None:
        self._fleet = fleet
        self._segment = segment
        self._facts = facts
        self._eventfd = eventfd
        self._logs = logs
        self._selector = selector
        self._path = path
        self._read_at = read_at
        self._read_only = os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY | os.O_CLOEXEC)
        """The segment, for who talks to strangers and has nothing to write there."""
        self._checks = prober.checks_memfd(checks(fleet.snapshot.config, fleet.snapshot.rows.servers))
        self._paths = watcher.paths_memfd(_paths(path, fleet.snapshot))
        self.listening = listening
        """The admin process's socket."""
        self._being_asked = False
        self.changed: Callable[[], None] = lambda: None
        self.attendants: dict[str, Attendant] = {}
        self._add("log_writer", self._of_log_writer)
        self._add("prober", self._of_prober)
        node = fleet.snapshot.config.node
        if node.admin is not None:
            if listening is None:
                self.listening = _listen(node.admin)
                self._add("admin", self._of_admin, self._asked)
        elif listening is not None:
            listening.close()
            self.listening = None
        if node.watch:
            self._add("watcher", self._of_watcher, self._told_of_change)

    def _add(
        self,
        name: str,
        orders: Callable[[int], Any],
        heard: Callable[[dict[str, Any]], None] = lambda _packet: None,
    ) -> Attendant:
        index = HEARTS.index(name)
        self._segment.shared.hearts[index] = time.monotonic_ns() // 1_000_000  # nobody is silent who has not begun
        self.attendants[name] = Attendant(
            name, orders, self._logs.events, self._selector, lambda: int(self._segment.shared.hearts[index]), heard
        )
        return self.attendants[name]

    # -- orders -------------------------------------------------------------------------------------------------------

    def _event_log(self) -> dict[str, Any]:
        """What all of them are told of it."""
        events = self._logs.events
        return {"events": events.fd, "level": events.level, "format": events.format}

    def _of_log_writer(self, control: int) -> logwriter.Orders:
        return logwriter.Orders(
            segment=self._segment.fd,
            facts=self._facts.fd,
            eventfd=self._eventfd,
            control=control,
            access=self._logs.access,
            **self._event_log(),
        )

    def _of_prober(self, control: int) -> prober.Orders:
        return prober.Orders(
            segment=self._segment.fd,
            control=control,
            checks=self._checks,
            **self._event_log(),
        )

    def _of_admin(self, control: int) -> admin.Orders:
        assert self.listening is not None
        return admin.Orders(
            segment=self._read_only,
            facts=self._facts.fd,
            control=control,
            listening=self.listening.fileno(),
            **self._event_log(),
            bind=str(self._fleet.snapshot.config.node.admin),
        )

    def _of_watcher(self, control: int) -> watcher.Orders:
        return watcher.Orders(
            segment=self._segment.fd,
            control=control,
            paths=self._paths,
            **self._event_log(),
            since=self._read_at,
        )

    # -- what they say ------------------------------------------------------------------------------------------------

    def _asked(self, packet: dict[str, Any]) -> None:
        """The admin process lives, or wants to know who is connected."""
        if packet.get("say") == "alive":
            self._segment.shared.hearts[HEARTS.index("admin")] = time.monotonic_ns() // 1_000_000
        if packet.get("ask") != "connections":
            return

        def finished(slots: list[int], files: list[int]) -> None:
            if (present := self.attendants.get("admin")) is not None:
                silent = census.silent(self._fleet, slots)
                present.tell({"connections": {"workers": slots, "silent": silent}}, files)
            close_all(files)
            self._being_asked = False

        if self._being_asked:  # one question at a time: each costs every worker a file
            return
        self._being_asked = True
        census.connections(self._fleet, finished)

    def _told_of_change(self, packet: dict[str, Any]) -> None:
        if packet.get("say") == "changed":
            self.changed()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether all have begun.

        Raises:
            StartError: one has ended instead
        """
        for one in self.attendants.values():
            if not one.ready and one.state != "running":
                raise StartError(f"the {one.name.replace('_', ' ')} did not start; what it printed stands above")
        return all(one.ready for one in self.attendants.values())

    @property
    def pids(self) -> set[int]:
        return {one.pid for one in self.attendants.values() if one.pid}

    def start(self) -> None:
        for one in self.attendants.values():
            one.start()

    def take_over(self) -> None:
        """We are the balancer now: who asks over HTTP is answered by our admin process from now on.

        Raises:
            OSError: it cannot be started
        """
        if self.listening is not None and "admin" not in self.attendants:
            self._add("admin", self._of_admin, self._asked).start()

    def tick(self, now: float) -> None:
        for name, one in list(self.attendants.items()):
            one.tick(now)
            if one.finished:
                del self.attendants[name]

    def renew(self) -> None:
        """New orders for all."""
        for one in self.attendants.values():
            one.renew()

    def told(self, snapshot: Snapshot, read_at: float) -> None:
        """A new generation is in force, and the workers serve it: now the attendants."""
        try:
            self._tell(snapshot, read_at)
        except OSError as error:  # no descriptor left: they go on as they are
            self._logs.events.event("error", "attendants_not_told", error=error.strerror)

    def _tell(self, snapshot: Snapshot, read_at: float) -> None:
        old = (self._checks, self._paths)
        self._read_at = read_at
        self._checks = prober.checks_memfd(checks(snapshot.config, snapshot.rows.servers))
        self._paths = watcher.paths_memfd(_paths(self._path, snapshot))
        self.renew()
        close_all(old)
        present = self.attendants.get("watcher")
        if not snapshot.config.node.watch:
            if present is not None:
                present.finish()
        elif present is None or present.finishing:
            if present is not None:
                present.close(_PATIENCE)
            self._add("watcher", self._of_watcher, self._told_of_change).start()

    def finish(self) -> None:
        """The log writer has what the last connections left to write; the others have nothing any more."""
        self.attendants["log_writer"].revive()
        for one in self.attendants.values():
            one.finish()

    def dismiss(self) -> None:
        """A successor has its own: nobody asks this admin process, and nothing is watched, any more."""
        for name in ("admin", "watcher"):
            if name in self.attendants:
                self.attendants[name].finish()
        if self.listening is not None:
            self.listening.close()
            self.listening = None

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for one in reversed(self.attendants.values()):
            one.close(max(0.1, until - time.monotonic()))
        if self.listening is not None:
            self.listening.close()


def _paths(path: Path, snapshot: Snapshot) -> list[Path]:
    """All files that a generation was made of."""
    found = {path: None}
    for listener in snapshot.config.listeners.values():
        for name in (*listener.client_auth.ca, *listener.client_auth.crl):
            found[name] = None
            with contextlib.suppress(BadFile):
                found.update(dict.fromkeys(files_in(name) if is_folder(name) else ()))
    for material in snapshot.material.listeners.values():
        for one in material.certificates:
            found.update({one.path: None, one.key_path: None})
    return list(found)


def _listen(endpoint: Endpoint) -> socket.socket:
    made = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(endpoint.sockaddr())
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_FAILED
        raise StartError(
            f"cannot listen on {endpoint} ([node] admin): {os.strerror(error.errno or 0).lower()}", code
        ) from None
    return made
