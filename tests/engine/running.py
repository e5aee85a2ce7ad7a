"""An engine that a test drives by hand: plain TCP in, plain TCP out, its records read back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from nlbcore.engine import counters
from nlbcore.engine.engine import Engine
from nlbcore.engine.hooks import ListenerPlan
from nlbcore.observe import access_log
from nlbcore.observe.access_log import Head
from nlbcore.pool.schedulers import Group, route_address
from nlbcore.process.logwriter import _records
from nlbcore.segment import Block, Shared
from nlbcore.termination import WORDS

BLOCK = Block()
SHARED = Shared()
"""Where this process counts, and what it looks at, from now on: they must live as long as the process."""


def alone() -> None:
    """Count as the only worker, and know nothing of any server."""
    ctypes.memset(ctypes.addressof(SHARED), 0, ctypes.sizeof(SHARED))
    counters.use(ctypes.addressof(BLOCK), ctypes.sizeof(BLOCK))
    counters.share(ctypes.addressof(SHARED), ctypes.addressof(BLOCK), 0, 1)


def plan(group: Group, **changes: Any) -> ListenerPlan:
    """A plain TCP listener for a group; it keeps the group alive, and what `changes` says beside it."""
    values: dict[str, Any] = {
        "generation": 1,
        "row": 0,
        "group_row": 0,
        "front": None,
        "verify": False,
        "tickets": False,
        "strict_sni": False,
        "reset_truncated": False,
        "handshake_timeout": 5,
        "connect_timeout": 5,
        "idle_timeout": 10,
        "half_close_timeout": 10,
        "max_handshakes": 0,
        "max_connections": 0,
        "cps": 0,
        "route": route_address(),
        "group": group.address,
        "alpn": b"",
        "fallback": 0,
        "names": {},
    }
    changes["keep"] = (group, *changes.get("keep", ()))
    return ListenerPlan(**{**values, **changes})


class Running:
    """One engine, one listener on a port of its own; `number` is that of the listener in force."""

    def __init__(self, servers: Iterable[tuple[int, int, int, Any]], **changes: Any) -> None:
        alone()
        BLOCK.ring.tail = BLOCK.ring.head
        self.channel, self.ours = socket.socketpair()
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.engine = Engine(3, self.channel.fileno(), self.eventfd)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.listening.setblocking(False)
        self.servers = list(servers)
        self.number = self.add(**changes)
        self.acceptor = self.engine.add_acceptor(self.listening.fileno(), self.number)
        self.clients: list[socket.socket] = []

    def add(self, **changes: Any) -> int:
        """One more listener of the engine, and its number."""
        return self.engine.add_listener(plan(Group(self.servers, "wrr"), **changes))

    def reload(self, generation: int = 2, **changes: Any) -> int:
        """As a worker does it at COMMIT: the number of the listener that was in force."""
        before, self.number = self.number, self.add(generation=generation, **changes)
        self.engine.move_acceptor(self.acceptor, self.number)
        self.engine.succeed(self.number)
        return before

    def listen(self, *, shared: bool = False) -> tuple[socket.socket, int]:
        """One more socket of the listener, and its number."""
        more = socket.create_server(("127.0.0.1", 0))
        more.setblocking(False)
        self.clients.append(more)
        return more, self.engine.add_acceptor(more.fileno(), self.number, shared)

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address)
        client.settimeout(5)
        self.clients.append(client)
        return client

    def turn(self, until: Callable[[], Any], timeout: float = 5) -> Any:
        """Let the engine work until a condition holds."""
        deadline = time.monotonic() + timeout
        while not (value := until()):
            assert time.monotonic() < deadline
            self.engine.turn()
            time.sleep(0.0005)
        return value

    def received(self, sock: socket.socket, size: int) -> bytes:
        """So many bytes, or all up to the end, at a socket beside the engine."""
        out = bytearray()
        sock.setblocking(False)

        def enough() -> bool:
            try:
                piece = sock.recv(size - len(out))
            except BlockingIOError:
                return False
            out.extend(piece)
            return not piece or len(out) == size

        self.turn(enough)
        sock.settimeout(5)
        return bytes(out)

    def words(self, count: int = 1) -> list[str]:
        """The terminations of so many ended connections."""
        return [self.word(one) for one in self.ended(count)]

    @staticmethod
    def word(ended: Head) -> str:
        return WORDS[ended.termination]

    def ended(self, count: int = 1) -> list[Head]:
        """The records of so many ended connections."""
        heads: list[Head] = []

        def enough() -> bool:
            heads.extend(access_log.unpack(record)[0] for record in _records(BLOCK.ring))
            return len(heads) >= count

        self.turn(enough)
        return heads

    def living(self) -> list[Head]:
        """The records of all live connections."""
        file = os.memfd_create("dump")
        slot: int | None = 0
        while slot is not None:
            slot = self.engine.dump_slice(file, slot)
        with os.fdopen(file, "rb") as written:
            written.seek(0)
            data = written.read()
        found = []
        while data:
            found.append(access_log.unpack(data)[0])
            data = data[found[-1].size :]
        return found

    def stop_accepting(self) -> None:
        """As a worker does it: the engine accepts no more, then the socket is closed."""
        self.engine.stop_accepting()
        self.listening.close()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.stop_accepting()
        self.engine.shut()
        with contextlib.suppress(AssertionError):
            self.turn(lambda: self.engine.turn() is None, 2)  # one that lingers waits for its client's FIN
        self.engine.close()
        self.channel.close()
        self.ours.close()
        os.close(self.eventfd)
