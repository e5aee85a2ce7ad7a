"""The control socket's server, in the supervisor's loop: it never waits for a client, and no client can disturb it.

Theory of operation
-------------------
A lock file beside the socket is held for as long as the server lives, so that a second balancer with the same path does
not start; a socket that is found while the lock is ours was left by a dead process and is replaced. Lock and socket go
through `fork()`: a child closes its descriptors of them, else both would outlive the supervisor in it.

Every registered key has a callable as its data, which the loop calls with the event mask. A client is in one of three
states: its request is awaited, its answer is being sent, or it is *held*: the end of the balancer is its answer. The
first two have a deadline, which the loop enforces by calling `expire()` now and then.

The socket is 0600 and the kernel says who the peer is: only our own user and root are answered, and none of our children.
That is a fence, not a wall: a worker that has been taken over is still a process of our user.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection
from pathlib import Path

from nlbcore.control.protocol import (
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

Answer = Callable[[str, Message], Message | None]
"""Carries out a verb: returns the result, raises NlbError, or returns None to hold the client."""

CLIENTS = 16
PATIENCE = 5.0
"""Seconds for a whole request, and again for taking its answer."""
BACK_OFF = 1.0
"""Seconds without accepting when there are no descriptors left."""
_BACKLOG = 64
_PIECE = 65536
_CREDENTIALS = struct.Struct("=iII")


class _Client:
    """One connection: what has come, what is still to be sent, and until when."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.decoder = Decoder(REQUEST_LIMIT)
        self.unsent = memoryview(b"")
        self.deadline: float | None = deadline
        self.held = False
        self.last = False  # the connection ends behind the answer


class ControlServer:
    """Listens at `path` from the moment it is made; serves from `register()` on."""

    def __init__(
        self, path: Path, answer: Answer, kin: Callable[[], Collection[int]], patience: float = PATIENCE
    ) -> None:
        """Lock the path and bind the socket.

        Args:
            path: of the socket; its folder is made if only that is missing
            answer: carries out a verb
            kin: the process ids of our children, which are refused
            patience: seconds for a request
        Raises:
            StartError: another balancer has the path, or it cannot be bound (exit code 77 when a permission is missing)
        """
        self.path = path
        self._answer = answer
        self._kin = kin
        self._patience = patience
        self._selector: selectors.BaseSelector | None = None
        self._clients: set[_Client] = set()
        self._resume: float | None = None
        self._lock_path = path.with_name(f"{path.name}.lock")
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(0o755)
            self._lock = _lock(self._lock_path, path)
            try:
                self._socket = _listen(path)
            except OSError:
                self._lock_path.unlink(missing_ok=True)
                os.close(self._lock)
                raise
        except OSError as error:
            raise _start_error(path, error) from None
        self._inode = _inode(path)

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
            return
        if self._selector is not None and self._socket in self._selector.get_map():
            self._selector.unregister(self._socket)
        self._socket.close()
        with contextlib.suppress(OSError):
            if _inode(self.path) == self._inode:
                self.path.unlink()
        for client in list(self._clients):
            self._end(client)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._lock), self._lock_path.lstat()):
                self._lock_path.unlink()
        os.close(self._lock)

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
            self._clients.add(client)
            self._watch(client, selectors.EVENT_READ)
            if refusal is not None:
                self._reply(client, failure(refusal), last=True)

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
        if not data or client.held:  # gone, or talking while it should wait
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
            self._reply(client, failure(error), last=True)
            return
        try:
            result = self._answer(verb, arguments)
            if result is not None:
                self._reply(client, success(result))
            else:
                client.held, client.deadline = True, None
        except NlbError as error:
            self._reply(client, failure(error))
        except Exception as error:  # noqa: BLE001 - a command that fails must not take the balancer with it
            self._reply(client, failure(NlbError(f"{verb}: internal error: {type(error).__name__}: {error}")))

    def _reply(self, client: _Client, message: Message, *, last: bool = False) -> None:
        client.unsent = memoryview(encode(message))
        client.last = last
        client.deadline = time.monotonic() + self._patience
        self._watch(client, selectors.EVENT_WRITE)

    def _send(self, client: _Client) -> None:
        """Send what the client takes; behind the answer the next request may come."""
        client.unsent = client.unsent[client.sock.send(client.unsent) :]
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
        self._clients.discard(client)
        if self._selector is not None and client.sock in self._selector.get_map():
            self._selector.unregister(client.sock)
        client.sock.close()


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


def _listen(path: Path) -> socket.socket:
    """Bind with the mode it is to have: not for a moment may anybody else connect."""
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise OSError(errno.EEXIST, "")
    if path.exists():
        _replace(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def _replace(path: Path) -> None:
    """Remove a socket that nobody listens on; the lock is ours, so it can only be served by another program."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        if client.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "")
    path.unlink()


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


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
