"""A control server in a real selectors loop, as the supervisor runs it, in a thread of the test."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from nlbcore.control.protocol import ANSWER_LIMIT, Decoder, encode
from nlbcore.control.server import ControlServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nlbcore.control.server import Answer, Pending, Reply


TICK = 0.05
"""Seconds after which the loop looks at deadlines in any case."""


class Loop:
    """Serves from `__enter__` to `__exit__`; `seen` are the requests, `turns` how often the loop has turned."""

    def __init__(self, path: Path, answer: Answer | None = None, *, patience: float = 5.0) -> None:
        self.kin: set[int] = set()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.turns = 0
        self._work: deque[Callable[[], object]] = deque()
        self._answer = answer or (lambda verb, arguments: {"verb": verb, **arguments})
        self.server = ControlServer(path, self._note, lambda: self.kin, patience)
        self._selector = selectors.DefaultSelector()
        self.server.register(self._selector)
        self._wake, self._poke = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_work)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="control loop")

    def do(self, work: Callable[[], object]) -> None:
        """Have it done in the loop, between two events."""
        self._work.append(work)
        os.write(self._poke, b"x")

    def _note(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | Reply | Pending | None:
        self.seen.append((verb, arguments))
        return self._answer(verb, arguments)

    def _on_work(self, mask: int) -> None:
        os.read(self._wake, 1)
        self._work.popleft()()

    def _end(self) -> None:
        self._running = False

    def _run(self) -> None:
        while self._running:
            for key, mask in self._selector.select(TICK):
                key.data(mask)
            self.server.expire()
            self.turns += 1
        self.server.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._end)
        self._thread.join(10)
        self._selector.close()
        os.close(self._wake)
        os.close(self._poke)


class Peer:
    """A client that can misbehave."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self._decoder = Decoder(ANSWER_LIMIT)

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def ask(self, verb: str, **arguments: object) -> dict[str, Any] | None:
        self.send(encode({"version": 1, "verb": verb, "arguments": arguments}))
        return self.answer()

    def answer(self) -> dict[str, Any] | None:
        """The next answer, None at the end of the connection."""
        while (message := self._decoder.next()) is None:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:  # something we sent was not read
                return None
            if not data:
                return None
            self._decoder.feed(data)
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def frame(text: bytes) -> bytes:
    """A frame around anything."""
    return struct.pack(">I", len(text)) + text
