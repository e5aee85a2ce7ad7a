"""A server answers and then resets: a client that reads late still gets all that was said before, and then no proper end."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import LINGER_RESET, Backend, Seen
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient
from tests.support.waiting import wait_still

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

SIZE = 2 << 20
LATE = 0.5


def unacknowledged(sock: socket.socket) -> int:
    """Bytes the other side's kernel has not taken yet."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])


def answer_then_reset(seen: Seen) -> None:
    """Answer at length, and reset once as much as possible has left. `sent` is what has."""
    seen.recv()
    seen.send(b"d" * SIZE)
    seen.sent -= wait_still(lambda: unacknowledged(seen.sock), "the answer leaves", quiet=0.3)
    seen.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


@pytest.fixture(scope="module")
def resetting(use: Callable[[Any], Any]) -> Backend:
    """That server."""
    return use(Backend(answer_then_reset))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def balancer(before: Callable[..., Balancer], resetting: Backend) -> Balancer:
    """One listener before it."""
    return before(web=resetting)


def test_slow_client_gets_the_answer(balancer: Balancer, resetting: Backend, mutual: ssl.SSLContext) -> None:
    """At least what had left the server; not taken for complete: no close_notify."""
    resetting.forget()
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().send(b"question")
        resetting.wait_accepted(1)
        resetting.wait_finished()
        time.sleep(LATE)  # time is the behaviour
        data, end = client.read_to_end()
        assert len(data) >= resetting.last.sent
        assert data == b"d" * len(data)
        assert end != CLOSE_NOTIFY
    assert balancer.line(client)["termination"] == "server_reset"
