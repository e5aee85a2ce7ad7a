"""Servers for the balancer to relay to: each with one manner, each counting what it was sent.

A server is a thread that accepts and a thread per connection. `accepted` and `received` say that nothing was sent to a
server, `connections` what each connection saw and how it ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

LINGER_RESET = struct.pack("ii", 1, 0)


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


def pattern(size: int, seed: int = 1) -> Iterator[bytes]:
    """`size` bytes that do not repeat at any record or buffer boundary, in pieces of 64 KiB and a rest."""
    block = hashlib.shake_256(seed.to_bytes(4, "big")).digest(65536 - 8)
    for number in range(size // 65536):
        yield number.to_bytes(8, "big") + block
    if size % 65536:
        yield ((size // 65536).to_bytes(8, "big") + block)[: size % 65536]


def digest_of(pieces: Iterator[bytes]) -> str:
    """SHA-256 of all pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


@dataclass
class Seen:
    """What one connection at a server saw. `end` is "eof" or "reset" once the other side has ended."""

    sock: socket.socket
    received: int = 0
    sent: int = 0
    data: bytearray = field(default_factory=bytearray)  # the first 64 KiB received
    digest: Any = field(default_factory=hashlib.sha256)
    end: str | None = None
    finished: bool = False

    def recv(self, size: int = 65536) -> bytes:
        """Receive, counting; empty at the end. A reset is recorded and raised."""
        try:
            piece = self.sock.recv(size)
        except ConnectionError:
            self.end = "reset"
            raise
        if not piece:
            self.end = "eof"
        self.received += len(piece)
        self.digest.update(piece)
        if len(self.data) < 65536:
            self.data += piece
        return piece

    def send(self, data: bytes) -> None:
        """Send all, counting."""
        self.sock.sendall(data)
        self.sent += len(data)

    def drain(self) -> None:
        """Receive until the end."""
        while self.recv():
            pass


class Backend:
    """A server on 127.0.0.1 (or ::1, or a UNIX socket) whose connections are served by `serve`; the default is an echo.

    Args:
        serve: called in a thread with the connection; when it returns the connection is closed.
        host: "127.0.0.1" or "::1".
        path: a UNIX socket instead.
        receive_buffer: SO_RCVBUF of the connections, 0 for the system's choice.
    """

    def __init__(
        self,
        serve: Callable[[Seen], None] | None = None,
        *,
        host: str = "127.0.0.1",
        path: Path | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self._serve = serve or echo
        self._lock = threading.Lock()
        self._closing = False
        self.connections: list[Seen] = []
        self._threads: list[threading.Thread] = []
        if path is not None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.address = f"unix:{path}"
        else:
            self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self._listener.bind((host, 0))
            self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.listen(1024)
        self._thread = threading.Thread(target=self._accept, name=f"backend {self.address}", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._listener.getsockname()[1])

    @property
    def accepted(self) -> int:
        """Connections accepted so far."""
        return len(self.connections)

    @property
    def received(self) -> int:
        """Bytes received so far, over all connections."""
        return sum(seen.received for seen in list(self.connections))

    @property
    def last(self) -> Seen:
        """The newest connection."""
        return self.connections[-1]

    def wait_accepted(self, count: int, timeout: float = 10.0) -> Seen:
        """Wait until so many connections have been accepted in all; the newest of them."""
        wait_until(
            lambda: self.accepted >= count, lambda: f"{count} connections at a server, got {self.accepted}", timeout
        )
        return self.connections[count - 1]

    def wait_finished(self, timeout: float = 10.0) -> None:
        """Wait until no connection is being served."""
        wait_until(lambda: all(seen.finished for seen in list(self.connections)), "a server's connections end", timeout)

    def forget(self) -> None:
        """Drop the records of finished connections and start counting at zero."""
        self.wait_finished()
        self.connections.clear()

    def entry(self, **options: object) -> dict[str, object]:
        """This server as an entry of `servers`."""
        return {"address": self.address, **options}

    def close(self) -> None:
        """Stop accepting, end every connection and every thread."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for seen in self.connections:
            with contextlib.suppress(OSError):
                seen.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a server's connection does not end"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = Seen(sock)
            thread = threading.Thread(target=self._run, args=(seen,), name=f"served by {self.address}", daemon=True)
            with self._lock:
                self._threads = (
                    [one for one in self._threads if one.is_alive()] if len(self._threads) > 64 else self._threads
                )
                self._threads.append(thread)
                self.connections.append(seen)
            thread.start()

    def _run(self, seen: Seen) -> None:
        try:
            self._serve(seen)
        except OSError:
            if seen.end is None:
                seen.end = "reset"
        finally:
            with contextlib.suppress(OSError):
                seen.sock.close()
            seen.finished = True


def echo(seen: Seen) -> None:
    """Send back what comes, until it ends."""
    while piece := seen.recv():
        seen.send(piece)


def sink(seen: Seen) -> None:
    """Read to the end, answer nothing."""
    seen.drain()


def digest_then_close(seen: Seen) -> None:
    """Read to the end, then answer with the SHA-256 of it and close: works only over a half-closed connection."""
    seen.drain()
    seen.send(seen.digest.hexdigest().encode())


def source(size: int, seed: int = 1) -> Callable[[Seen], None]:
    """Send `size` bytes of `pattern`, end that direction, then read to the end."""

    def serve(seen: Seen) -> None:
        for piece in pattern(size, seed):
            seen.send(piece)
        seen.sock.shutdown(socket.SHUT_WR)
        seen.drain()

    return serve


def duplex(size: int, seed: int = 1) -> Callable[[Seen], None]:
    """Send `size` bytes and receive to the end, both at once."""

    def serve(seen: Seen) -> None:
        def send() -> None:
            with contextlib.suppress(OSError):
                for piece in pattern(size, seed):
                    seen.send(piece)
                seen.sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, name="duplex sender", daemon=True)
        sender.start()
        try:
            seen.drain()
        finally:
            sender.join()

    return serve


def greet(greeting: bytes) -> Callable[[Seen], None]:
    """Speak first, then echo."""

    def serve(seen: Seen) -> None:
        seen.send(greeting)
        echo(seen)

    return serve


def answer_then_close(answer: bytes) -> Callable[[Seen], None]:
    """Wait for the first bytes, answer and close at once."""

    def serve(seen: Seen) -> None:
        seen.recv()
        seen.send(answer)

    return serve


def half_close_first(farewell: bytes) -> Callable[[Seen], None]:
    """Say farewell, end the own direction at once, then read to the end."""

    def serve(seen: Seen) -> None:
        seen.send(farewell)
        seen.sock.shutdown(socket.SHUT_WR)
        seen.drain()

    return serve


def reset_after_first_bytes(seen: Seen) -> None:
    """Wait for the first bytes, then reset the connection."""
    seen.recv()
    seen.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


def gated_sink(gate: threading.Event) -> Callable[[Seen], None]:
    """Read nothing until the gate opens, then to the end."""

    def serve(seen: Seen) -> None:
        gate.wait(30)
        seen.drain()

    return serve


def hold(release: threading.Event) -> Callable[[Seen], None]:
    """Read to the end, then keep the own direction open and silent until released."""

    def serve(seen: Seen) -> None:
        seen.drain()
        release.wait(30)

    return serve


class Refusing:
    """An address where connecting is refused: bound, so that nobody else takes it, and not listening."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def entry(self, **options: object) -> dict[str, object]:
        """This server as an entry of `servers`."""
        return {"address": self.address, **options}

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


class Hanging:
    """An address where a connect is never answered: its accept queue is full and nobody accepts, so SYNs are dropped."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        where = self._listener.getsockname()
        self.address = f"127.0.0.1:{where[1]}"
        self._fill: list[socket.socket] = []
        for _ in range(8):
            filler = socket.socket()
            filler.settimeout(0.2)
            self._fill.append(filler)
            try:
                filler.connect(where)
            except TimeoutError:
                return
        raise AssertionError("the accept queue does not fill up")

    def entry(self, **options: object) -> dict[str, object]:
        """This server as an entry of `servers`."""
        return {"address": self.address, **options}

    def close(self) -> None:
        """Close everything."""
        for filler in self._fill:
            filler.close()
        self._listener.close()
