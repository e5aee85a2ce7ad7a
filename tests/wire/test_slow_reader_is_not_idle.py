"""A client that reads slowly but steadily is not idle, even where the kernel's buffers hide its progress from the balancer."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Seen, pattern
from tests.support.balancer import Balancer, plain_listener, server_group

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST = 10.0  # that idle_timeout may be
PACE = 60_000  # bytes per second


def endless(seen: Seen) -> None:
    """Answer the first bytes with more than any buffer takes."""
    seen.recv()
    with contextlib.suppress(OSError):
        for piece in pattern(32 << 20):
            seen.send(piece)


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any]) -> Balancer:
    """A plain listener with the shortest idle_timeout."""
    return balancer_for(
        {
            "listeners": {"tcp": plain_listener(idle_timeout=f"{SHORTEST:g}s")},
            "server_groups": {"app": server_group(use(Backend(endless)))},
        }
    )


def test_slow_reader(balancer: Balancer) -> None:
    """After more than idle_timeout of slow reading, the connection is still there."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect(("127.0.0.1", balancer.port("tcp")))
        sock.settimeout(5)
        sock.sendall(b"x")
        start = time.monotonic()
        got = 0
        while time.monotonic() - start < SHORTEST + 3:
            piece = sock.recv(4096)
            assert piece, f"ended after {time.monotonic() - start:.1f} s, {got} bytes"
            got += len(piece)
            time.sleep(max(0.0, start + got / PACE - time.monotonic()))
        assert not balancer.access.find(client_port=sock.getsockname()[1])
