"""The plain transport, by the rules that hold for both (`transports`), and what is its own."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.transports import AGAIN, END, ERROR, Conformance, Ends
from tests.support.backends import reset

Pipe = Callable[..., Any]
Pair = Callable[[], tuple[int, socket.socket]]


class TestPlain(Conformance):
    """The rules of both."""

    @pytest.fixture
    def ends(self, pipe_on: Pipe, pair: Pair) -> Ends:
        fd, peer = pair()
        return Ends(pipe_on(fd), peer.recv, peer.sendall, lambda: peer.shutdown(socket.SHUT_WR), peer)


def test_a_unix_socket(pipe_on: Pipe) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pipe = pipe_on(ours.detach())
    with theirs:
        assert pipe.write(b"there") == 5
        assert theirs.recv(9) == b"there"
        theirs.sendall(b"back")
        assert pipe.read(9) == b"back"
        pipe.close()
        assert theirs.recv(9) == b""


def test_a_short_read_waits_for_the_next_edge(pipe_on: Pipe, pair: Pair) -> None:
    fd, peer = pair()
    pipe = pipe_on(fd)
    peer.sendall(b"one")
    assert pipe.read(100) == b"one"
    peer.sendall(b"two")
    assert pipe.read(100) == AGAIN, "the kernel has not told of it"
    pipe.ready()
    assert pipe.read(3) == b"two"
    pipe.close()


def test_a_short_read_is_not_the_end_when_the_fin_is_there(pipe_on: Pipe, pair: Pair) -> None:
    """Edge-triggered, the FIN is told once; nothing is told again for it."""
    fd, peer = pair()
    pipe = pipe_on(fd)
    peer.sendall(b"one")
    peer.shutdown(socket.SHUT_WR)
    pipe.ready(rdhup=True)
    assert pipe.read(100) == b"one"
    assert pipe.read(100) == END
    pipe.close()


def test_a_reset_is_an_error_not_an_end(pipe_on: Pipe, pair: Pair) -> None:
    fd, peer = pair()
    pipe = pipe_on(fd)
    reset(peer)
    assert pipe.read(100) == ERROR
    assert pipe.read(100) == ERROR, "whenever it is asked"
    assert pipe.state()["error"] == errno.ECONNRESET
    assert not pipe.state()["ended"]
    pipe.close()


def test_a_reset_found_by_writing_is_no_end_for_reading(pipe_on: Pipe, pair: Pair) -> None:
    """The send takes the socket's error away; recv() then says 0."""
    fd, peer = pair()
    pipe = pipe_on(fd)
    reset(peer)
    assert pipe.write(b"x") == ERROR
    assert pipe.state()["error"] == errno.ECONNRESET
    assert pipe.read(100) == ERROR
    pipe.close()


def test_closing_by_reset(pipe_on: Pipe, pair: Pair) -> None:
    fd, peer = pair()
    pipe = pipe_on(fd)
    pipe.close(reset=True)
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    pipe.close()
