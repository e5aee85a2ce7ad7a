"""The upgrade of the running program (USR2): a new supervisor takes the listening sockets over, no connection is refused.

    old supervisor                              new supervisor, the same command line, executed anew
      the sockets, the lock, a socket to talk ->  rehearses, starts its workers: from now on both accept
                                     {"say": "ready"}   <-
      tells systemd whose pid counts
                                     {"say": "take"}    ->
                                                  the control socket's name and the pid file are its own
                                     {"say": "taken"}   <-
      accepts no more, drains, exits              is the balancer

Until "taken" the old one is the balancer: if the new one ends before, or is not ready in `upgrade_timeout`, it is killed,
and all is as it was. Ticket keys, counters and generations are the new one's own: sessions are not resumed across.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.process.attendant import close_all, hear, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from nlbcore.process.sockets import Address
    from nlbcore.process.supervisor import Supervisor

VARIABLE = "NLB_UPGRADE"


class Upgrade:
    """The old supervisor's side of one upgrade, on its way.

    Args:
        selector: of the main loop
        seconds: that the new program may take
        ready: called with its process id when it serves
        finished: called at the end, with the reason why it was not successful, or with ""
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        seconds: float,
        ready: Callable[[int], None],
        finished: Callable[[str], None],
    ) -> None:
        self._selector = selector
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._ready = ready
        self._finished = finished
        self._process: subprocess.Popen[bytes] | None = None
        self._talk: socket.socket | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def begin(self, addresses: Mapping[str, Address], legacy: dict[str, Any], environment: Mapping[str, str]) -> None:
        """Execute the new program.

        Args:
            addresses: what it takes over
            legacy: more of it: `control_socket`, `admin_address`, and the descriptors `lock` and `admin` (-1 for none)
            environment: variables that were taken out of ours, and that it needs
        Raises:
            OSError: it cannot be executed
        """
        self._talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._talk.setblocking(False)
        with theirs:
            sockets = {
                name: {str(slot): sock.fileno() for slot, sock in address.sockets.items()}
                for name, address in addresses.items()
            }
            handed = {**legacy, "talk": theirs.fileno(), "sockets": sockets}
            fds = {theirs.fileno(), legacy["lock"], *(fd for slots in sockets.values() for fd in slots.values())}
            if legacy["admin"] >= 0:
                fds.add(legacy["admin"])
            self._process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]],
                pass_fds=sorted(fds),
                env={**os.environ, **environment, VARIABLE: json.dumps(handed)},
            )
        self._selector.register(self._talk, selectors.EVENT_READ, self._on_talk)

    def _on_talk(self, _mask: int) -> None:
        assert self._talk is not None
        try:
            heard = hear(self._talk)
        except BlockingIOError:
            return
        except ValueError:
            heard = None
        if heard is None:
            self.fail("the new program has ended")
            return
        packet, fds = heard
        close_all(fds)
        if packet == {"say": "ready"}:
            self._ready(self.pid)
            say(self._talk, {"say": "take"})
        elif packet == {"say": "taken"}:
            self._end()
            self._finished("")

    def tick(self, now: float) -> None:
        """Do not wait for ever."""
        if self._talk is not None and now >= self._until:
            self.fail(f"the new program was not ready within {self._seconds:g} s")

    def fail(self, reason: str) -> None:
        """Kill it; its own workers and attendants end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._end()
        self._finished(reason)

    def _end(self) -> None:
        if self._talk is not None:
            self._selector.unregister(self._talk)
            self._talk.close()
            self._talk = None


class Upgrades:
    """What an upgrade means for the old supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._upgrade: Upgrade | None = None
        self._asked = False

    @property
    def on_the_way(self) -> bool:
        return self._upgrade is not None

    def ask(self) -> None:
        """Let the program that stands in our place on the disk take over; after a reload that is on its way."""
        self._asked = True
        self.go_on()

    def go_on(self) -> None:
        """With what was asked for."""
        old = self._supervisor
        if not self._asked or self._upgrade is not None or old.reloads.current is not None or old.draining:
            return
        self._asked = False
        seconds = old.snapshot.config.node.upgrade_timeout
        self._upgrade = Upgrade(old.selector, seconds, old.notifier.main_pid, self._on_finished)
        listening = old.household.listening
        legacy = {
            "control_socket": str(old.control.path),
            "lock": old.control.lock,
            "admin": listening.fileno() if listening is not None else -1,
            "admin_address": str(old.snapshot.config.node.admin),
        }
        try:
            self._upgrade.begin(old.addresses, legacy, old.notifier.environment)
        except OSError as error:
            self._on_finished(error.strerror or str(error))
        else:
            old.logs.events.event("info", "upgrade_begun", pid=self._upgrade.pid)

    def tick(self, now: float) -> None:
        if self._upgrade is not None:
            self._upgrade.tick(now)

    def stop(self, reason: str) -> None:
        if self._upgrade is not None:
            self._upgrade.fail(reason)

    def _on_finished(self, reason: str) -> None:
        old = self._supervisor
        upgrade, self._upgrade = self._upgrade, None
        events = old.logs.events
        if not reason:
            events.event("info", "upgraded", successor=upgrade.pid if upgrade is not None else 0)
            old.succeeded()
            return
        events.event("error", "upgrade_failed", reason=reason)
        old.notifier.main_pid(os.getpid())
        try:
            old.control.bind_again()
            old.write_pid()
        except (NlbError, OSError) as error:
            events.event("error", "control_socket_lost", error=str(error))
        old.reloads.go_on()


@dataclass
class Predecessor:
    """The new supervisor's side: what it takes over, and from whom.

    Attributes:
        talk: to the old one
        lock: the control socket's
        admin: the admin process's listening socket; None: there was none
        admin_address: where it listens
        control_socket: the path of the old one's
        sockets: by address and slot
    """

    talk: socket.socket
    lock: int
    admin: socket.socket | None
    control_socket: str
    admin_address: str
    sockets: dict[str, dict[int, socket.socket]] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """What stands in the environment, which is taken out of it: it is for no child."""
        text = environ.pop(VARIABLE, "")
        if not text:
            return None
        handed = json.loads(text)
        os.set_inheritable(handed["lock"], False)
        found = cls(
            talk=_taken(handed["talk"]),
            lock=handed["lock"],
            admin=_taken(handed["admin"]) if handed["admin"] >= 0 else None,
            control_socket=handed["control_socket"],
            admin_address=handed["admin_address"],
        )
        found.talk.setblocking(True)
        for name, slots in handed["sockets"].items():
            found.sockets[name] = {int(slot): _taken(fd) for slot, fd in slots.items()}
        return found

    @property
    def slots(self) -> int:
        """How many it had."""
        return max((len(slots) for slots in self.sockets.values()), default=0)

    def listening(self, address: object) -> socket.socket | None:
        """The admin process's socket, if it listens at this address."""
        if self.admin is not None and self.admin_address != str(address):
            self.admin.close()
            self.admin = None
        return self.admin

    def replaced(self, take: Callable[[], None]) -> None:
        """Say that we are ready, and `take()` over when it says so, or has gone."""
        say(self.talk, {"say": "ready"})
        hear(self.talk)
        take()
        say(self.talk, {"say": "taken"})
        self.close()

    def close(self) -> None:
        """What nobody wants any more."""
        self.talk.close()
        for slots in self.sockets.values():
            for sock in slots.values():
                sock.close()
        self.sockets.clear()


def _taken(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
