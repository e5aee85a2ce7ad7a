"""Which worker has which connection, as the kernel tells it; clients spread over the workers, and clients that keep coming."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from tests.support.balancer import alive, title
from tests.support.tls_client import EOF, RESET, TIMEOUT, Connected, TlsClient
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import signal
    import ssl
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import psutil

    from tests.support.balancer import Balancer


class Client(Protocol):
    """What `TlsClient` and `PlainClient` have in common."""

    port: int

    def ping(self, data: bytes = ..., timeout: float = ...) -> float: ...
    def read_to_end(self, timeout: float = ...) -> tuple[bytes, str]: ...
    def close(self) -> None: ...


class PlainClient(Connected):
    """A TCP client of a plain listener with an echo server behind it."""

    def ping(self, data: bytes = b"ping", timeout: float = TIMEOUT) -> float:
        """Send and wait for the echo; seconds it took."""
        start = time.monotonic()
        self.sock.settimeout(timeout)
        self.sock.sendall(data)
        got = b""
        while len(got) < len(data) and (piece := self.sock.recv(65536)):
            got += piece
        assert got == data, f"echo of {data[:40]!r} is {got[:40]!r}"
        return time.monotonic() - start

    def read_to_end(self, timeout: float = TIMEOUT) -> tuple[bytes, str]:
        """Everything until the end, and how it ended."""
        data = b""
        self.sock.settimeout(timeout)
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except ConnectionError:
            return data, RESET
        return data, EOF

    def close(self) -> None:
        self.sock.close()


class Greeted(PlainClient):
    """A client that knows which server it has: one that greets with a letter."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.server = self.sock.recv(1).decode()


C = TypeVar("C", bound=Client)


def tls_client(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> TlsClient:
    """A TLS client that has completed its handshake."""
    client = TlsClient(port, context, session=session)
    try:
        return client.handshake()
    except BaseException:
        client.close()
        raise


# -- which worker ---------------------------------------------------------------------------------------------------------


def by_slot(balancer: Balancer) -> dict[int, psutil.Process]:
    """The workers by their slots; one that ends while it is looked at has no title any more."""
    titles = {worker: title(worker) for worker in balancer.workers()}
    return {int(text.split()[-1]): worker for worker, text in titles.items() if text}


def inodes(process: psutil.Process) -> set[int]:
    """The sockets that a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{process.pid}/fd/{name}")
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found


def _remote_ports() -> dict[int, int]:
    """Ports of the other side, by the inodes of established sockets."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[9]): int(row[2].rpartition(":")[2], 16) for row in rows if row[3] == "01"}


def slot_of(balancer: Balancer, client: Client) -> int:
    """The slot of the worker that has accepted a client."""
    ports = _remote_ports()
    (slot,) = (
        slot for slot, worker in by_slot(balancer).items() if client.port in {ports.get(one) for one in inodes(worker)}
    )
    return slot


def spread(
    stack: contextlib.ExitStack, connect_one: Callable[[], C], balancer: Balancer, each: int
) -> dict[int, list[C]]:
    """Open connections until every worker has at least `each`; the stack closes them."""
    held: dict[int, list[C]] = {slot: [] for slot in by_slot(balancer)}
    for _ in range(len(held) * each * 20):
        client = connect_one()
        stack.callback(client.close)
        client.ping()
        held[slot_of(balancer, client)].append(client)
        if all(len(clients) >= each for clients in held.values()):
            return held
    raise AssertionError(f"a worker gets no connections: {held}")


def end(process: psutil.Process, number: signal.Signals) -> float:
    """Send a deadly signal and wait for the death; its moment on the monotonic clock."""
    process.send_signal(number)
    wait_until(lambda: not alive(process), f"{process} dies of {number.name}", 5.0)
    return time.monotonic()


def successor(balancer: Balancer, name: str, old: psutil.Process) -> psutil.Process:
    """Wait until another process has the title of one that has died."""

    def found() -> list[psutil.Process]:
        return [one for one in balancer.titled(name) if one.pid != old.pid]

    return wait_until(found, f"another {name}")[0]


# -- clients in the background --------------------------------------------------------------------------------------------


class _Background:
    """Threads that repeat something until the end of the `with` statement."""

    def __init__(self, threads: int) -> None:
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"{type(self).__name__} {number}", daemon=True)
            for number in range(threads)
        ]

    def _run(self, number: int) -> None:
        while not self._over.is_set():
            self._once(number)
            self._over.wait(0.01)

    def _once(self, number: int) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)


@dataclass(frozen=True)
class Visit:
    """One connection of a visitor; `error` is empty when all went well."""

    start: float
    seconds: float
    error: str


class Visitors(_Background):
    """Clients that keep coming, one after the other in each thread: connect, ping, leave."""

    def __init__(self, connect_one: Callable[[], Client], threads: int = 2) -> None:
        super().__init__(threads)
        self._connect = connect_one
        self.visits: list[Visit] = []

    def _once(self, number: int) -> None:
        start = time.monotonic()
        error = ""
        try:
            client = self._connect()
            try:
                client.ping(f"visitor {number}".encode() * 100)
            finally:
                client.close()
        except Exception as problem:
            error = repr(problem)
        self.visits.append(Visit(start, time.monotonic() - start, error))

    def wait_since(self, moment: float, count: int = 10) -> list[Visit]:
        """Wait for so many visits that began after a moment, and return them."""
        return wait_until(
            lambda: found if len(found := self.since(moment)) >= count else [], f"{count} visits after {moment}"
        )

    def since(self, moment: float) -> list[Visit]:
        """Visits that began after a moment."""
        return [visit for visit in list(self.visits) if visit.start > moment]

    def all_served(self, moment: float, seconds: float) -> None:
        """Check that every visit that began after a moment was served within so many seconds."""
        visits = self.since(moment)
        assert visits, "nobody came"
        bad = [visit for visit in visits if visit.error or visit.seconds > seconds]
        assert not bad, f"{len(bad)} of {len(visits)} new clients not served within {seconds:g} s: {bad[:5]}"


class Talkers(_Background):
    """Open connections that keep talking, in one thread: every answer must be what was said."""

    def __init__(self, clients: Sequence[Client]) -> None:
        super().__init__(1)
        self._clients = clients
        self.rounds = 0
        self.error = ""

    def _once(self, number: int) -> None:
        del number
        try:
            for client in self._clients:
                client.ping(os.urandom(20_000))
            self.rounds += 1
        except Exception as problem:
            self.error = self.error or repr(problem)
            self._over.set()

    def wait_rounds(self, more: int = 2) -> None:
        """Wait until every client has said and heard something again."""
        wanted = self.rounds + more
        wait_until(lambda: self.error or self.rounds >= wanted, "open connections talk")
        assert not self.error, self.error


def refused(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0
