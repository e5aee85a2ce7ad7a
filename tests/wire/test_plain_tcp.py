"""A plain TCP listener relays bytes as they are, in both directions, half-closes included."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, digest_of, pattern
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect
from tests.support.workers import PlainClient

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 30_000_001


@pytest.fixture(scope="module")
def servers(use: Callable[[Any], Any]) -> dict[str, Backend]:
    """One server per manner."""
    return {
        "echo": use(Backend()),
        "duplex": use(Backend(backends.duplex(SIZE, seed=3))),
        "digest": use(Backend(backends.digest_then_close)),
        "closes": use(Backend(backends.answer_then_close(b"bye"))),
        "resets": use(Backend(backends.reset_after_first_bytes)),
    }


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], servers: dict[str, Backend]) -> Balancer:
    """A listener per server."""
    return balancer_for(
        {
            "listeners": {name: plain_listener(group=name) for name in servers},
            "server_groups": {name: server_group(server) for name, server in servers.items()},
        }
    )


def test_both_ways_at_once(balancer: Balancer, servers: dict[str, Backend]) -> None:
    """30 MB each way, exact."""

    def send() -> None:
        for piece in pattern(SIZE):
            sock.sendall(piece)
        sock.shutdown(1)

    with connect(balancer.port("duplex"), timeout=30) as sock:
        sender = threading.Thread(target=send, name="plain sender")
        sender.start()
        digest = hashlib.sha256()
        while piece := sock.recv(1 << 18):
            digest.update(piece)
        sender.join()
    servers["duplex"].wait_finished()
    assert digest.hexdigest() == digest_of(pattern(SIZE, seed=3))
    assert servers["duplex"].last.digest.hexdigest() == digest_of(pattern(SIZE))


def test_half_close(balancer: Balancer) -> None:
    """The client's FIN reaches the server, whose answer still comes."""
    with connect(balancer.port("digest")) as sock:
        sock.sendall(b"abc")
        sock.shutdown(1)
        assert sock.recv(100).decode() == hashlib.sha256(b"abc").hexdigest()
        assert sock.recv(100) == b""
        assert balancer.line(sock)["termination"] == "client_close"


def test_server_closes(balancer: Balancer) -> None:
    """Its answer, then end of file; `server_close`."""
    with connect(balancer.port("closes")) as sock:
        sock.sendall(b"abc")
        assert sock.recv(100) == b"bye"
        assert sock.recv(100) == b""
        sock.shutdown(1)
        assert balancer.line(sock)["termination"] == "server_close"


def test_server_resets(balancer: Balancer) -> None:
    """A reset is passed on as one; `server_reset`."""
    with connect(balancer.port("resets")) as sock:
        sock.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
        assert balancer.line(sock)["termination"] == "server_reset"


def test_client_resets(balancer: Balancer, servers: dict[str, Backend]) -> None:
    """A client's reset reaches the server as one; `client_reset`."""
    client = PlainClient(balancer.port("echo"))
    client.ping(b"abc")
    backends.reset(client.sock)
    servers["echo"].wait_finished()
    assert servers["echo"].last.end == "reset"
    assert balancer.line(client)["termination"] == "client_reset"
