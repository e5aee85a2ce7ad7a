"""What the servers behind do with bytes, seen from a plain socket: also in small pieces, with a slow reader, and at the end."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from nlbbench.backends import serve
from nlbbench.pattern import piece
from nlbbench.spec import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def client(address: str) -> Iterator[socket.socket]:
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as made:
        yield made


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return bytes(data)


def test_echo_of_more_than_fits_on_the_way() -> None:
    """A client that sends everything before it reads: the echo stops reading, and loses nothing."""
    wanted = piece(3, 30_000_000)
    with serve(Backend.ECHO) as server, client(server.address) as sock:
        sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(wanted):
                sent += sock.send(wanted[sent : sent + 1_000_000])
        sock.setblocking(True)
        sock.settimeout(20)
        assert receive(sock, sent) == wanted[:sent]
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_source_answers_request_after_request() -> None:
    with serve(Backend.SOURCE) as server, client(server.address) as sock:
        requests = [(5, 100), (300_000, 1_000_000), (1, 0), (2, 1)]
        sock.sendall(b"".join(struct.pack(">QQ", *one) for one in requests)[:-3])
        sock.sendall(struct.pack(">QQ", *requests[-1])[-3:])
        for place, size in requests:
            assert receive(sock, size) == piece(place, size)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_sink_tells_how_many_bytes_were_right() -> None:
    with serve(Backend.SINK) as server, client(server.address) as sock:
        wrong = bytearray(piece(9, 200_000))
        wrong[-1] ^= 1
        for place, data in ((7, piece(7, 100_000)), (9, bytes(wrong)), (11, b""), (13, piece(13, 10))):
            message = struct.pack(">QQ", place, len(data)) + data
            sock.sendall(message[:20])
            sock.sendall(message[20:])
            said, right = struct.unpack(">QQ", receive(sock, 16))
            assert said == place
            if place == 9:
                assert right < len(data)
            else:
                assert right == len(data)


def test_slow_waits_before_each_read() -> None:
    with serve(Backend.SLOW, delay=0.05, chunk=10) as server, client(server.address) as sock:
        begun = time.monotonic()
        sock.sendall(b"x" * 40)
        assert receive(sock, 40) == b"x" * 40
        assert time.monotonic() - begun >= 0.2
        sock.sendall(b"y")
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 2) == b"y"


@pytest.mark.parametrize("kind", Backend)
def test_clients_that_reset_do_no_harm(kind: Backend) -> None:
    with serve(kind, delay=0.01) as server:
        for _ in range(20):
            with client(server.address) as sock:
                sock.sendall(struct.pack(">QQ", 0, 10_000_000))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with client(server.address) as sock:
            sock.sendall(struct.pack(">QQ", 1, 0))
            sock.shutdown(socket.SHUT_WR)
            assert len(receive(sock, 17)) == (0 if kind is Backend.SOURCE else 16)
