"""The control socket's server, in the supervisor's loop: it never waits for a client, and no client can disturb it.

Theory of operation
-------------------
A lock file beside the socket is held for as long as the server lives, so that a second balancer with the same path does
not start; a socket that is found while the lock is ours was left by a dead process and is replaced. Lock and socket go
through `fork()`: a child closes its descriptors of them, else both would outlive the supervisor in it.

Every registered key has a callable as its data, which the loop calls with the event mask. A client is in one of four
states: its request is awaited, its answer is being sent, its answer is *pending*: it comes later, or it is *held*: the
end of the balancer is its answer. The first two have a deadline, which the loop enforces by calling `expire()` now and
then; the others wait for as long as it takes, and may go meanwhile.

Who waits must not lock out who asks, `status` and `stop` least of all. There are `CLIENTS` places. With `PENDING`
clients waiting, a verb that has ever been answered later is refused; the others are carried out. With `HELD` clients
waiting for the end, the one that waits longest is let go: it goes on waiting for the process.

The socket is 0600 and the kernel says who the peer is: only our own user and root are answered, and none of our children.
That is a fence, not a wall: a worker that has been taken over is still a process of our user.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlbcore import unixsocket
from nlbcore.control.protocol import (
    DESCRIPTORS,
    REQUEST_LIMIT,
    Decoder,
    Message,
    ProtocolError,
    encode,
    failure,
    read_request,
    success,
)
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, BusyError, DeniedError, NlbError, StartError

CLIENTS = 16
PENDING = CLIENTS // 2
HELD = CLIENTS // 4
PATIENCE = 5.0
"""Seconds for a whole request, and again for taking its answer."""
BACK_OFF = 1.0
"""Seconds without accepting when there are no descriptors left."""
_BACKLOG = 64
_PIECE = 65536
_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True)
class Reply:
    """A result with descriptors, which are the server's from now on: it closes them when they are sent, or cannot be."""

    result: Message
    fds: Sequence[int] = ()


class Pending:
    """An answer that comes later, by the first call of `resolve()` or `fail()`; what comes after it is dropped.

    Attributes:
        gone: nobody waits for it any more; the answer may be given all the same
    """

    def __init__(self) -> None:
        self.gone = False
        self._answer: Reply | NlbError | None = None
        self._deliver: Callable[[Reply | NlbError], None] | None = None

    def resolve(self, result: Message, fds: Sequence[int] = ()) -> None:
        """Answer; the descriptors are the server's from now on."""
        self._settle(Reply(result, fds))

    def fail(self, error: NlbError) -> None:
        """Answer that it could not be done."""
        self._settle(error)

    def _settle(self, answer: Reply | NlbError) -> None:
        if self.gone or self._answer is not None:
            _close_all(answer.fds if isinstance(answer, Reply) else ())
            return
        self._answer = answer
        if self._deliver is not None:
            self._deliver(answer)

    def _attach(self, deliver: Callable[[Reply | NlbError], None]) -> None:
        """The server calls it once, with what sends the answer, which may be there already."""
        self._deliver = deliver
        if self._answer is not None:
            deliver(self._answer)


Answer = Callable[[str, Message], Message | Reply | Pending | None]
"""Carries out a verb: returns the result or a promise of it, raises NlbError, or returns None to hold the client."""


class _Client:
    """One connection: what has come, what is still to be sent, and until when."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.decoder = Decoder(REQUEST_LIMIT)
        self.unsent = memoryview(b"")
        self.fds: Sequence[int] = ()  # go with the first byte
        self.deadline: float | None = deadline
        self.pending: Pending | None = None
        self.held = False
        self.last = False  # the connection ends behind the answer


class ControlServer:
    """Listens at `path` from the moment it is made; serves from `register()` on."""

    def __init__(
        self,
        path: Path,
        answer: Answer,
        kin: Callable[[], Collection[int]],
        patience: float = PATIENCE,
        lock: int | None = None,
    ) -> None:
        """Lock the path and bind the socket.

        Args:
            path: of the socket; its folder is made if only that is missing
            answer: carries out a verb
            kin: the process ids of our children, which are refused
            patience: seconds for a request
            lock: that of the server that this one is to replace; it has the path until `take_over()`
        Raises:
            StartError: another balancer has the path, or it cannot be bound (exit code 77 when a permission is missing)
        """
        self.path = path
        self._answer = answer
        self._kin = kin
        self._patience = patience
        self._selector: selectors.BaseSelector | None = None
        self._clients: dict[_Client, None] = {}  # in the order in which they came
        self._late: set[str] = set()  # the verbs that were ever answered later
        self._resume: float | None = None
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._place = path if lock is None else path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(0o755)
            self._lock = _lock(self._lock_path, path) if lock is None else lock
            try:
                self._socket = unixsocket.bind(self._place, _BACKLOG, 0o600)
            except OSError:
                self._lock_path.unlink(missing_ok=True)
                os.close(self._lock)
                raise
        except OSError as error:
            raise _start_error(path, error) from None
        self._inode = unixsocket.inode(self._place)

    @property
    def lock(self) -> int:
        """The descriptor that is the lock, for a server that is to replace this one."""
        return self._lock

    def take_over(self) -> None:
        """Have the path, in the place of the server whose lock we were given.

        Raises:
            OSError: something that is no socket has it
        """
        unixsocket.replace(self.path, self._place)
        self._place = self.path
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def hand_over(self) -> None:
        """Another has taken over, and has path and lock. Who has come to us before is answered by us, whoever still waits in
        the queue too.
        """
        for _ in range(_BACKLOG // CLIENTS):
            self._on_connection(0)
        self._stop_listening()
        os.close(self._lock)

    def bind_again(self) -> None:
        """The one that was to take over has failed, and may have taken the path with it.

        Raises:
            OSError: it cannot be bound
        """
        if self.path.exists() and unixsocket.inode(self.path) == self._inode:
            return
        made = unixsocket.bind(self.path, _BACKLOG, 0o600)
        self._resume = None
        if self._selector is not None and self._socket in self._selector.get_map():
            self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = made
        self._inode = unixsocket.inode(self.path)
        if self._selector is not None:
            self.register(self._selector)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Serve from this selector: for each of our keys, `key.data(mask)` does the work."""
        self._selector = selector
        selector.register(self._socket, selectors.EVENT_READ, self._on_connection)

    def expire(self) -> None:
        """End the clients whose time is up; accept again after a back-off."""
        now = time.monotonic()
        for client in list(self._clients):
            if client.deadline is not None and client.deadline <= now:
                self._end(client)
        if self._resume is not None and self._resume <= now and self._selector is not None:
            self._resume = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._on_connection)

    def close(self) -> None:
        """End every client and remove socket and lock file, if they are still ours. Held clients see the end."""
        if self._socket.fileno() < 0:
            self._end_all()
            return
        unixsocket.remove(self._place, self._inode)
        self._stop_listening()
        self._end_all()
        if self._place != self.path:  # the lock file is that of the server that we have not replaced
            os.close(self._lock)
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._lock), self._lock_path.lstat()):
                self._lock_path.unlink()
        os.close(self._lock)

    def _stop_listening(self) -> None:
        self._resume = None
        if self._selector is not None and self._socket in self._selector.get_map():
            self._selector.unregister(self._socket)
        self._socket.close()

    def _end_all(self) -> None:
        for client in list(self._clients):
            self._end(client)

    # -- clients ------------------------------------------------------------------------------------------------------

    def _on_connection(self, mask: int) -> None:
        del mask
        for _ in range(CLIENTS):
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptor left, no memory: the client waits in the queue, and we must not spin
                self._pause()
                return
            sock.setblocking(False)
            client = _Client(sock, time.monotonic() + self._patience)
            refusal = self._refusal(sock)
            self._clients[client] = None
            self._watch(client, selectors.EVENT_READ)
            if refusal is not None:
                self._reply(client, encode(failure(refusal)), last=True)

    def _pause(self) -> None:
        assert self._selector is not None
        self._selector.unregister(self._socket)
        self._resume = time.monotonic() + BACK_OFF

    def _refusal(self, sock: socket.socket) -> NlbError | None:
        """Why this peer is not served; None if it is."""
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in (os.geteuid(), 0):
            return DeniedError(f"only the user that the balancer runs as and root are answered, not uid {uid}")
        if pid in self._kin():
            return DeniedError(f"process {pid} is a part of the balancer itself, and not answered")
        if len(self._clients) >= CLIENTS:
            return BusyError(f"{CLIENTS} commands are talking to the balancer already")
        return None

    def _on_event(self, client: _Client, mask: int) -> None:
        if client not in self._clients:  # ended by another event of the same batch
            return
        try:
            if mask & selectors.EVENT_WRITE:
                self._send(client)
            elif mask & selectors.EVENT_READ:
                self._receive(client)
        except BlockingIOError:
            pass
        except OSError:
            self._end(client)

    def _receive(self, client: _Client) -> None:
        data = client.sock.recv(_PIECE)
        if not data or client.held or client.pending:  # gone, or talking while it should wait
            self._end(client)
            return
        client.decoder.feed(data)
        self._serve(client)

    def _serve(self, client: _Client) -> None:
        """Carry out the request, if it is all there."""
        try:
            message = client.decoder.next()
            if message is None:
                return
            verb, arguments = read_request(message)
        except ProtocolError as error:
            self._reply(client, encode(failure(error)), last=True)
            return
        try:
            self._make_room(verb)
            result = self._answer(verb, arguments)
        except NlbError as error:
            self._finish(client, verb, error)
        except Exception as error:  # noqa: BLE001 - a command that fails must not take the balancer with it
            self._finish(client, verb, _internal(verb, error))
        else:
            if result is None:
                self._hold(client)
            elif isinstance(result, Pending):
                self._late.add(verb)
                client.pending, client.deadline = result, None
                result._attach(lambda answer: self._finish(client, verb, answer))  # noqa: SLF001 - its other half
            else:
                self._finish(client, verb, result if isinstance(result, Reply) else Reply(result))

    def _make_room(self, verb: str) -> None:
        """Before anything is done: refuse what would make one more client wait, when enough do."""
        if verb in self._late and sum(client.pending is not None for client in self._clients) >= PENDING:
            raise BusyError(f"{PENDING} commands wait for the balancer's answer already; try again")

    def _hold(self, client: _Client) -> None:
        client.held, client.deadline = True, None
        for one in [one for one in self._clients if one.held][:-HELD]:
            self._end(one)

    def _finish(self, client: _Client, verb: str, answer: Reply | NlbError) -> None:
        """Send the answer, whatever it is; descriptors that cannot be sent are closed."""
        client.pending = None
        if isinstance(answer, NlbError):
            self._reply(client, encode(failure(answer)))
            return
        try:
            if len(answer.fds) > DESCRIPTORS:
                raise ProtocolError(f"{len(answer.fds)} descriptors are too many")
            frame = encode(success(answer.result, len(answer.fds)))
        except Exception as error:  # noqa: BLE001 - as in _serve()
            _close_all(answer.fds)
            self._reply(client, encode(failure(_internal(verb, error))))
        else:
            self._reply(client, frame, answer.fds)

    def _reply(self, client: _Client, frame: bytes, fds: Sequence[int] = (), *, last: bool = False) -> None:
        client.unsent = memoryview(frame)
        client.fds = fds
        client.last = last
        client.deadline = time.monotonic() + self._patience
        self._watch(client, selectors.EVENT_WRITE)

    def _send(self, client: _Client) -> None:
        """Send what the client takes; behind the answer the next request may come."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", client.fds))] if client.fds else []
        client.unsent = client.unsent[client.sock.sendmsg([client.unsent], rights) :]
        _close_all(client.fds)
        client.fds = ()
        if client.unsent:
            return
        if client.last:
            self._end(client)
            return
        client.deadline = time.monotonic() + self._patience
        self._watch(client, selectors.EVENT_READ)
        self._serve(client)

    def _watch(self, client: _Client, events: int) -> None:
        assert self._selector is not None
        if client.sock in self._selector.get_map():
            self._selector.unregister(client.sock)
        self._selector.register(client.sock, events, lambda mask: self._on_event(client, mask))

    def _end(self, client: _Client) -> None:
        self._clients.pop(client, None)
        if client.pending is not None:
            client.pending.gone = True
            client.pending = None
        if self._selector is not None and client.sock in self._selector.get_map():
            self._selector.unregister(client.sock)
        client.sock.close()
        _close_all(client.fds)
        client.fds = ()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _internal(verb: str, error: Exception) -> NlbError:
    return NlbError(f"{verb}: internal error: {type(error).__name__}: {error}")


def _lock(lock_path: Path, path: Path) -> int:
    """Hold the lock file, with our process id in it; the descriptor is the lock.

    Raises:
        StartError: another balancer holds it
    """
    while True:
        fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), lock_path.lstat()):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise StartError(
                f"another nlb is running (pid {holder or 'unknown'}), it answers at {path}: stop it with `nlb stop`, "
                "or give this one a [node] control_socket of its own"
            ) from None
        except FileNotFoundError:  # its last holder has removed it
            pass
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _start_error(path: Path, error: OSError) -> StartError:
    hints = {
        errno.EADDRINUSE: "another program listens there",
        errno.EACCES: "permission denied; set [node] control_socket to a path that this user can write",
        errno.EPERM: "not permitted",
        errno.EROFS: "the file system is read-only; set [node] control_socket to another path",
        errno.ENOENT: "the folder does not exist",
        errno.ENOTDIR: "that is not in a folder",
        errno.EEXIST: "something else has that name, and it is not removed",
        errno.ELOOP: "the lock file is a symbolic link",
    }
    reason = hints.get(error.errno or 0, error.strerror or str(error))
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_FAILED
    return StartError(f"cannot listen for commands on {path}: {reason}", code)
