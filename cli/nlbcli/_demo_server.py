"""A server of the demo: HTTP on an inherited socket, the same few bytes for whoever asks.

It answers when it has seen the end of the request's head, and closes. One process, no threads: a client that says
nothing costs a descriptor and delays nobody.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Sequence

import setproctitle

HEAD_LIMIT = 65536
"""Longest head that is read; the rest of a longer one is not waited for."""


def answer(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join([*head, "", ""]).encode() + body


class Server:
    """Serves all connections of one listening socket."""

    def __init__(self, listener: socket.socket, body: bytes) -> None:
        self._listener = listener
        self._answer = answer(body)
        self._heads: dict[socket.socket, bytearray | None] = {}  # what has come of it; None: answered
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def turn(self, timeout: float | None = None) -> None:
        """Wait for something to do, and do it."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone meanwhile
            return
        sock.setblocking(False)
        self._heads[sock] = bytearray()
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        try:
            piece = sock.recv(HEAD_LIMIT)
            head = self._heads[sock]
            if head is not None:
                head += piece
                if b"\r\n\r\n" in head or len(head) > HEAD_LIMIT:
                    self._heads[sock] = None
                    sock.sendall(self._answer)
                    # Closed when the other side has ended: bytes that nobody reads would make the close a reset.
                    sock.shutdown(socket.SHUT_WR)
        except OSError:
            piece = b""
        if not piece:
            self._selector.unregister(sock)
            del self._heads[sock]
            sock.close()


def main(arguments: Sequence[str]) -> None:
    """DESCRIPTOR NAME: serve on that socket, with the name as the answer."""
    descriptor, name = arguments
    setproctitle.setproctitle(f"nlb: demo, {name}")
    server = Server(socket.socket(fileno=int(descriptor)), f"{name}\n".encode())
    while True:
        server.turn()


if __name__ == "__main__":
    main(sys.argv[1:])
