"""A helper process of the supervisor that is started with fork and **exec**: log writer, prober, admin, watcher.

It gets a fresh interpreter and only the descriptors it needs, so it has no key in its memory; and one end of a control
socket, whose end is the order to finish. What is said on it is one packet each (SOCK_SEQPACKET), a JSON object with
descriptors beside it, its text in a memfd of its own when it is long:

    attendant -> supervisor    {"say": "ready"}             it has begun
                               {"say": "changed"}           watcher: files that matter have changed
                               {"ask": "connections"}       admin: who is connected?
    supervisor -> attendant    {"orders": {...}} + fds      new orders: a log file opened anew, other servers to check
                               {"connections": {...}} + fds the answer, as that of the control socket's `conns`

In orders a descriptor is its place among the packet's; where they are given at the start, on the command line, its
number. One that dies, whose heart stops or who talks nonsense is started again, with back-off.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nlbcore.process.backoff import Backoff, ended_by
from nlbcore.segment import HEARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from nlbcore.observe.log import EventLog
    from nlbcore.segment import Segment

    class Orders(Protocol):
        """What it is started with: a frozen dataclass, of which `DESCRIPTORS` names the fields that are such; -1 for none."""

        DESCRIPTORS: ClassVar[tuple[str, ...]]

        def command(self) -> list[str]: ...

    Order = TypeVar("Order", bound=Orders)

_PACKET = 65536
_DESCRIPTORS = 253
"""Of one packet: as many as the kernel allows."""
_ASIDE = b"\0"
"""A packet whose text is the file behind its first descriptor."""
_LONGEST = 64 * 1024 * 1024
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE

SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTTIN, signal.SIGTTOU),
)
"""What is meant for the supervisor, also when it is sent to the whole group; attendants and workers ignore it."""
DELAYS = (0.1, 1.0, 5.0, 30.0)
"""Seconds before it is started again; one that has lived for longer than the last begins anew."""
BEAT = 0.25
"""Seconds between two beats of a heart."""
SILENCE = 10.0
"""Seconds without a beat after which it is killed: no connection waits for it, and a busy machine is no reason."""
START_TIMEOUT = 30.0
"""Seconds until its first word."""
FINISH_TIMEOUT = 3.0
"""Seconds that it may live without a control socket."""
LATE = 1.0
"""Seconds between two looks after which the supervisor itself has slept (SIGSTOP, a paused machine): it accuses nobody of
a silence that was its own."""


def ignore_signals() -> None:
    """In the attendant, as soon as it runs: it ends when its control socket does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def beat(segment: Segment, name: str) -> None:
    """In the attendant, every `BEAT` seconds: its heart, as one of `segment.HEARTS`."""
    segment.shared.hearts[HEARTS.index(name)] = time.monotonic_ns() // 1_000_000


def say(sock: socket.socket, packet: dict[str, Any], fds: Sequence[int] = ()) -> bool:
    """Send one packet; False when the other end is gone, or has let too many wait."""
    text = json.dumps(packet).encode()
    aside = []
    try:
        if len(text) > _PACKET:
            aside.append(_put_aside(text))
            text = _ASIDE
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [*aside, *fds]))] if aside or fds else []
        sock.sendmsg([text], rights, socket.MSG_DONTWAIT)
    except OSError:
        return False
    finally:
        close_all(aside)
    return True


def _put_aside(text: bytes) -> int:
    fd = os.memfd_create("nlb-packet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(text)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def hear(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next packet and its descriptors, which the caller owns; None at the end.

    Raises:
        BlockingIOError: there is none now, on a socket that does not block
        ValueError: it is no such packet, or not all of it has come
    """
    numbers = array.array("i")
    try:
        room = socket.CMSG_LEN(_DESCRIPTORS * numbers.itemsize)
        data, rights, flags, _ = sock.recvmsg(_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    for level, kind, payload in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    fds = list(numbers)
    if not data and not fds:
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a packet that has not come whole")
        if data == _ASIDE and fds:
            data = _taken_from_aside(fds.pop(0))
        return _parsed(data), fds
    except ValueError:
        close_all(fds)
        raise


def _taken_from_aside(fd: int) -> bytes:
    """The text, and the descriptor closed; only a memfd that cannot change any more is read: nothing else is sure to answer."""
    try:
        size = os.fstat(fd).st_size
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS or size > _LONGEST:
            raise ValueError("a packet in no sealed file")
        return os.pread(fd, size, 0)
    except OSError:
        raise ValueError("a packet in no file") from None
    finally:
        close_all([fd])


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        packet = json.loads(data)
    except RecursionError:
        raise ValueError("a packet without end") from None
    if not isinstance(packet, dict):
        raise ValueError("a packet that is no object")  # noqa: TRY004 - as all that is wrong with it
    return packet


def received(kind: type[Order], packet: dict[str, Any], fds: list[int]) -> Order:
    """The orders in a packet that `hear()` has heard."""
    fields = dict(packet["orders"])
    for name in kind.DESCRIPTORS:
        if fields[name] >= 0:
            fields[name] = fds[fields[name]]
    return kind(**fields)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors; an error (a late one, of a file on a network) says nothing about those that follow."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _descriptors(orders: Orders) -> list[int]:
    return sorted({fd for name in orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0})


class Attendant:
    """One such process.

    Args:
        name: for the event log, as in `log_writer`
        orders: makes its orders, given the descriptor of its end of the control socket; -1 for new orders
        events: the event log
        selector: the supervisor's
        heart: when its heart last beat, in ms of the monotonic clock
        heard: what is done with a packet of it other than that it is ready; a ValueError says that it makes no sense

    Attributes:
        ready: it has said so
        restarts: processes that were started after the first
        finishing: it was told to finish
    """

    def __init__(
        self,
        name: str,
        orders: Callable[[int], Orders],
        events: EventLog,
        selector: selectors.BaseSelector,
        heart: Callable[[], int],
        heard: Callable[[dict[str, Any]], None] = lambda _packet: None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.ready = False
        self._orders = orders
        self._events = events
        self._selector = selector
        self._heart = heart
        self._heard = heard
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._backoff = Backoff(DELAYS)
        self._started = 0.0
        self._deadline = 0.0  # when it is killed: it has not said that it is ready, or does not finish
        self._ticked = self._woke = time.monotonic()
        self._renew_again = False
        self.finishing = False

    @property
    def pid(self) -> int:
        """0 while it has none."""
        return self._process.pid if self._process is not None else 0

    @property
    def finished(self) -> bool:
        """Whether it was told to finish, and has."""
        return self.finishing and self._process is None

    @property
    def state(self) -> str:
        return "running" if self._process is not None else "down"

    def start(self) -> None:
        """Start it; `ready` when it has said so, killed if it does not within START_TIMEOUT.

        Raises:
            OSError: no process could be made
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            orders = self._orders(theirs.fileno())
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it has its own way with them
            try:
                self._process = subprocess.Popen(
                    orders.command(), pass_fds=_descriptors(orders), stdin=subprocess.DEVNULL
                )
            except OSError:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._control = ours
        self._selector.register(ours, selectors.EVENT_READ, self._on_control)
        self._started = time.monotonic()
        self._deadline = self._started + START_TIMEOUT
        self._renew_again = self.finishing = False

    # -- what is said -------------------------------------------------------------------------------------------------

    def _on_control(self, _mask: int) -> None:
        """It talks to strangers: what it says is not taken on trust."""
        if self._control is None or self._process is None:
            return
        try:
            heard = hear(self._control)
            if heard is None:
                self._hang_up()  # its end comes, or it is as good as dead
                return
            packet, fds = heard
            close_all(fds)  # nobody has asked for any
            if packet.get("say") == "ready":
                self.ready = True
                self._deadline = 0.0
            else:
                self._heard(packet)
        except BlockingIOError:
            return
        except ValueError as error:
            self._events.event("error", f"{self.name}_misbehaves", pid=self.pid, said=str(error))
            self._hang_up()
            self._process.kill()

    def tell(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        """Say something to it; whether it was sent."""
        return self._control is not None and say(self._control, packet, fds)

    def renew(self) -> None:
        """Give it new orders, as it would get them at a start; in a moment, if it has not read what was said before."""
        if self._control is None:
            return
        orders = self._orders(-1)
        fds = _descriptors(orders)
        places = {name: fds.index(fd) for name in orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0}
        self._renew_again = not self.tell({"orders": {**vars(orders), **places}}, fds)

    # -- watching -----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Note that it has died, or that its heart has stopped; start it again when it is time."""
        if now - self._ticked > LATE:
            self._woke = now
        self._ticked = now
        if self._process is None:
            if now >= self._backoff.due and not self.finishing:
                self._restart(now)
        elif (status := self._process.poll()) is not None:
            self._drop()
            if not self.finishing:
                self._on_death(status, now)
        elif self._deadline and now >= self._deadline:
            self._kill(now - self._started)
        elif self.ready and now - (beaten := max(self._heart() / 1000, self._started, self._woke)) > SILENCE:
            self._kill(now - beaten)
        elif self._renew_again:
            self.renew()

    def _on_death(self, status: int, now: float) -> None:
        if now - self._started > DELAYS[-1]:
            self._backoff.settled()
        delay = self._backoff.fail(now)
        self._events.event("error", f"{self.name}_died", reason=ended_by(status), restart_in=f"{delay:g}s")

    def _kill(self, silent: float) -> None:
        self._deadline = 0.0
        self.ready = False
        if self._process is not None:
            self._events.event("error", f"{self.name}_stuck", pid=self.pid, silent=f"{silent:.1f}s")
            self._process.kill()

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
            self._backoff.fail(now)
            self._events.event("error", f"{self.name}_not_started", error=error.strerror)
        else:
            self.restarts += 1
            self._events.event("info", f"{self.name}_started", pid=self.pid)

    # -- end ----------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Tell it to; `tick()` sees its end, or makes it, and `close()` waits for it. It is not started again."""
        self.finishing = True
        self._hang_up()

    def close(self, seconds: float) -> None:
        """Let it finish; one that does not (its reader is stuck) is killed."""
        self.finish()
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._drop()

    def _drop(self) -> None:
        self._hang_up()
        self._process = None

    def _hang_up(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
            self._deadline = time.monotonic() + FINISH_TIMEOUT
        self.ready = False
