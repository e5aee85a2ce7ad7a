"""The TLS transport: the rules of both transports on TLS 1.2 and 1.3, and budgets, truncation, floods, fresh buffers.

The server's context is the test's own: no callback of the engine is on it. The client is Python's `ssl`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from OpenSSL import SSL

from nlbcore.tls.context import Front
from tests.engine.transports import AGAIN, END, ERROR, PATTERN, YIELD, Conformance, Ends, read_all, read_some
from tests.support.certs import Pki
from tests.support.tls_client import client_context

Pipe = Callable[..., Any]
Pair = Callable[[], tuple[int, socket.socket]]
DONE = 1


@pytest.fixture(scope="module")
def front(pki: Pki) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(pki.server.certificate)
    context.use_privatekey(pki.server.key)
    context.set_session_id(b"test")
    return context


@pytest.fixture
def connect(
    pipe_on: Pipe, pair: Pair, front: SSL.Context, pki: Pki, version: ssl.TLSVersion
) -> Iterator[Callable[[], tuple[Any, ssl.SSLSocket]]]:
    """`connect()`: a transport and a client whose handshake is over."""
    made: list[ssl.SSLSocket] = []

    def make() -> tuple[Any, ssl.SSLSocket]:
        fd, peer = pair()
        (triple,) = Front(front).connections(1)
        pipe = pipe_on(fd, triple)
        client = client_context(pki.root.path, version).wrap_socket(
            peer, server_hostname="www.example.com", do_handshake_on_connect=False
        )
        made.append(client)
        client.setblocking(False)
        deadline = time.monotonic() + 5
        ours = theirs = False
        while not (ours and theirs):
            assert time.monotonic() < deadline
            if not theirs:
                try:
                    client.do_handshake()
                    theirs = True
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            if not ours:
                pipe.ready()
                ours = pipe.handshake() == DONE
                pipe.flush()
        client.settimeout(10)
        return pipe, client

    yield make
    for client in made:
        client.close()


class TestTls(Conformance):
    """The rules of both."""

    @pytest.fixture
    def ends(self, connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> Ends:
        pipe, client = connect()
        return Ends(pipe, client.recv, client.sendall, lambda: close_notify(client), client)


def close_notify(client: ssl.SSLSocket) -> None:
    """Send it, and do not wait for the answer."""
    client.setblocking(False)
    with contextlib.suppress(ssl.SSLError):
        client.unwrap()
    client.settimeout(10)


def test_cut_off(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    """FIN without close_notify: an end, but no clean one."""
    pipe, client = connect()
    client.sendall(b"words")
    socket.socket.shutdown(client, socket.SHUT_WR)
    assert read_all(pipe) == b"words"
    assert (pipe.state()["ended"], pipe.state()["clean"]) == (True, False)


def test_close_notify_and_the_bytes_before_it_in_one_segment(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    pipe, client = connect()
    client.sendall(PATTERN)
    close_notify(client)
    assert read_all(pipe) == PATTERN
    assert pipe.state()["clean"]


def test_two_share_the_receive_buffer(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    """OpenSSL reads records where they were received. What one connection's budget leaves there survives the other's receive,
    whole records and halves.
    """
    pipes, clients = zip(*(connect() for _ in range(2)), strict=True)
    sent = [b"", b""]
    for number, client in enumerate(clients):
        for record in range(300):
            piece = bytes([65 + number + record % 20]) * (100 + record)
            client.sendall(piece)
            sent[number] += piece
        close_notify(client)
    read = [b"", b""]
    ended = 0
    while ended < 2:
        ended = 0
        for number, pipe in enumerate(pipes):
            pipe.ready()
            piece = pipe.read(65536)
            if isinstance(piece, bytes):
                read[number] += piece
            else:
                assert piece in (AGAIN, YIELD, END)
            ended += pipe.state()["ended"]
    assert read == sent


def test_a_bad_record(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    pipe, client = connect()
    socket.socket.send(client, b"\x17\x03\x03\x00\x20" + bytes(32))
    assert read_some(pipe) == ERROR
    state = pipe.state()
    assert state["error"] == 0
    assert state["ssl_error"] != 0
    assert pipe.backlog() > 0, "the alert"


def test_no_tls_at_all(door: Any, pipe_on: Pipe, pair: Pair, front: SSL.Context) -> None:
    fd, peer = pair()
    pipe = pipe_on(fd, Front(front).connections(1)[0])
    peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
    time.sleep(0.01)
    assert pipe.handshake() == ERROR
    assert door.error_word(pipe.state()["ssl_error"]) == "not_tls"
    pipe.close()


def test_a_client_that_leaves_during_the_handshake(pipe_on: Pipe, pair: Pair, front: SSL.Context) -> None:
    fd, peer = pair()
    pipe = pipe_on(fd, Front(front).connections(1)[0])
    assert pipe.handshake() == AGAIN
    peer.sendall(b"\x16\x03\x01\x02\x00\x01")
    peer.shutdown(socket.SHUT_WR)
    pipe.ready()
    while (answer := pipe.handshake()) == AGAIN:
        pipe.ready()
    assert answer == END
    assert pipe.shutdown() == 0, "there is no close_notify before a handshake is over"
    pipe.close()


def test_more_than_a_handshake_may_have(pipe_on: Pipe, pair: Pair, front: SSL.Context) -> None:
    """Empty handshake records for ever: the bytes are counted."""
    fd, peer = pair()
    peer.setblocking(False)
    pipe = pipe_on(fd, Front(front).connections(1)[0])
    hello = b"\x16\x03\x01\x40\x00\x01\x03\xff\xff" + bytes(0x3FFC)
    waiting = hello + b"".join(b"\x16\x03\x01\x40\x00" + bytes(0x4000) for _ in range(32))
    deadline = time.monotonic() + 5
    while (answer := pipe.handshake()) == AGAIN:
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            waiting = waiting[peer.send(waiting) :]
        pipe.ready()
    assert answer == ERROR
    pipe.close()


def test_a_round_has_a_budget_of_records(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    """However often it is read in a round."""
    pipe, client = connect()
    for _ in range(200):
        client.send(b"x")
    rounds: list[int] = []
    deadline = time.monotonic() + 5
    while sum(rounds) < 200:
        assert time.monotonic() < deadline
        pipe.ready()
        rounds.append(0)
        while isinstance(found := pipe.read(65536), bytes):
            rounds[-1] += len(found)
        assert found in (AGAIN, YIELD)
    assert max(rounds) == 64
    pipe.ready()
    assert pipe.read(10) == AGAIN


def test_bytes_inside_are_pending(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    """Nobody is told of them by epoll."""
    pipe, client = connect()
    client.sendall(b"0123456789")
    assert read_some(pipe, 4) == b"0123"
    assert pipe.pending()
    assert pipe.read(100) == b"456789"
    assert not pipe.pending()


def test_buffers_are_given_back(connect: Callable[[], tuple[Any, ssl.SSLSocket]]) -> None:
    """Not while something waits in them; and the connection goes on."""
    pipe, client = connect()
    client.sendall(PATTERN[:20_000])
    assert read_some(pipe, 10) == PATTERN[:10]
    while pipe.pending():
        assert read_some(pipe, 1 << 16)
    pipe.ready(writable=False)
    pipe.write(PATTERN)
    assert not pipe.rest(), "there is a backlog"
    pipe.ready()
    out = bytearray()
    client.settimeout(0.05)
    while len(out) < len(PATTERN):
        pipe.flush()
        pipe.ready()
        try:
            out += client.recv(1 << 16)
        except TimeoutError:
            continue
    assert bytes(out) == PATTERN
    assert pipe.rest()
    client.settimeout(10)
    client.sendall(b"still here")
    while (found := read_some(pipe)) != b"still here":
        assert isinstance(found, bytes), found
    assert pipe.write(b"so are we") == 9
    assert client.recv(100) == b"so are we"
