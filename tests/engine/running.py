"""An engine that a test drives by hand: plain TCP in, plain TCP out, its records read back."""

from __future__ import annotations

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
    """A plain TCP listener for a group; it keeps the group alive."""
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
        "keep": (group,),
    }
    return ListenerPlan(**{**values, **changes})


class Running:
    """One engine, one listener on a port of its own."""

    def __init__(self, servers: Iterable[tuple[int, int, int, Any]], **changes: Any) -> None:
        alone()
        BLOCK.ring.tail = BLOCK.ring.head
        self.channel, self.ours = socket.socketpair()
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.engine = Engine(3, self.channel.fileno(), self.eventfd)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.listening.setblocking(False)
        self.number = self.engine.add_listener(plan(Group(servers, "wrr"), **changes))
        self.acceptor = self.engine.add_acceptor(self.listening.fileno(), self.number)
        self.clients: list[socket.socket] = []

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
            self.engine.run(0.01)
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
        heads: list[tuple[Any, ...]] = []

        def enough() -> bool:
            heads.extend(access_log._HEAD.unpack_from(record) for record in _records(BLOCK.ring))
            return len(heads) >= count

        self.turn(enough)
        return [WORDS[head[2]] for head in heads]

    def stop_accepting(self) -> None:
        """As a worker does it: the engine accepts no more, then the socket is closed."""
        self.engine.stop_accepting()
        self.listening.close()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.stop_accepting()
        self.engine.run(2)  # one that lingers waits for its client's FIN
        self.engine.shut()
        self.engine.close()
        self.channel.close()
        self.ours.close()
        os.close(self.eventfd)
