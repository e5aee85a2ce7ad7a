"""TCP urgent data: the urgent byte may be lost, as anywhere, but it stops nothing: all else goes through in order."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend) -> Balancer:
    """One plain listener before an echo."""
    return balancer_for({"listeners": {"tcp": plain_listener()}, "server_groups": {"app": server_group(backend)}})


def test_urgent_byte(balancer: Balancer) -> None:
    """Between other bytes, many times: whether all come in one read or the urgent one in its own is up to the kernel."""
    for number in range(25):
        with connect(balancer.port("tcp"), timeout=3) as sock:
            sock.sendall(b"a")
            assert sock.recv(1) == b"a"
            sock.sendall(b"abc")
            sock.send(b"X", socket.MSG_OOB)
            sock.sendall(b"defgh")
            got = read_to(b"h", sock)
            assert got in {b"abcdefgh", b"abcXdefgh"}, f"time {number + 1}: {got!r}"


def read_to(last: bytes, sock: socket.socket) -> bytes:
    """All until these bytes, or until nothing comes any more. (An end of file would wake what sleeps: there is none.)"""
    got = b""
    try:
        while not got.endswith(last):
            piece = sock.recv(100)
            assert piece, f"ended after {got!r}"
            got += piece
    except TimeoutError:
        got += b" and then silence"
    return got
