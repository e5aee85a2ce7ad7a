"""TERM (and QUIT, INT): new connections are refused, living ones finish, exit 0; `drain_timeout` and a second TERM cut them off.

Other signals that are sent by habit (HUP, USR1, USR2) end nothing. Full pipes: test_stop_with_full_pipes.py.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.backends import Backend
from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import TLS13, TlsClient, client_context, connect
from tests.support.waiting import stays, wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certs import Pki


CONNECTIONS = 400


@pytest.fixture
def server() -> Iterator[Backend]:
    """An echo server of this test alone."""
    with Backend() as server:
        yield server


def make(folder: Path, pki: Pki, server: Backend, drain: str) -> Balancer:
    """A balancer with a TLS and a plain listener, started by the test."""
    return Balancer(
        folder,
        {
            "node": {"drain_timeout": drain},
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path), "plain": plain_listener()},
            "server_groups": {"app": server_group(server)},
        },
    )


def is_closed(port: int) -> bool:
    """Whether connecting is refused."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_nothing_under_way(tmp_path: Path, pki: Pki, server: Backend, number: signal.Signals) -> None:
    """With no connection it ends at once with 0, having said so in the event log."""
    balancer = make(tmp_path, pki, server, "30s").start()
    start = time.monotonic()
    balancer.signal(number)
    balancer.wait_exit(0)
    assert time.monotonic() - start < 5
    words = [word for line in balancer.events() for word in line.split()]
    assert "stopping" in words
    assert "stopped" in words


def test_drains(tmp_path: Path, pki: Pki, server: Backend, mutual: ssl.SSLContext) -> None:
    """A living connection goes on and may end by itself; new ones are refused meanwhile."""
    balancer = make(tmp_path, pki, server, "30s").start()
    with TlsClient(balancer.port(), mutual) as client, connect(balancer.port("plain")) as plain:
        client.handshake().ping()
        plain.sendall(b"ping")
        assert plain.recv(10) == b"ping"
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: is_closed(balancer.port()) and is_closed(balancer.port("plain")), "the listeners close")
        for _ in range(5):
            client.ping(b"still here" * 1000)
        plain.sendall(b"ping")
        assert plain.recv(10) == b"ping"
        assert balancer.exit_code is None
    balancer.wait_exit(0)
    assert balancer.line(client)["termination"] in {"client_close", "drained"}


def test_drain_timeout(tmp_path: Path, pki: Pki, server: Backend, mutual: ssl.SSLContext) -> None:
    """What has not ended within `drain_timeout` is cut off: `shutdown` in the log, exit 0."""
    balancer = make(tmp_path, pki, server, "1s").start()
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping()
        start = time.monotonic()
        balancer.signal(signal.SIGTERM)
        client.read_to_end()
        assert 0.8 < time.monotonic() - start < 4
        balancer.wait_exit(0)
    assert balancer.line(client)["termination"] == "shutdown"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(
    tmp_path: Path, pki: Pki, server: Backend, mutual: ssl.SSLContext, second: signal.Signals
) -> None:
    """A second TERM or INT stops at once."""
    balancer = make(tmp_path, pki, server, "60s").start()
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping()
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: is_closed(balancer.port()), "the listeners close")
        client.ping()
        start = time.monotonic()
        balancer.signal(second)
        client.read_to_end()
        balancer.wait_exit(0)
        assert time.monotonic() - start < 5
    assert balancer.line(client)["termination"] == "shutdown"


def test_ports_are_free_afterwards(tmp_path: Path, pki: Pki, server: Backend, mutual: ssl.SSLContext) -> None:
    """The same configuration starts again at once."""
    balancer = make(tmp_path, pki, server, "5s")
    for _ in range(2):
        balancer.start()
        with TlsClient(balancer.port(), mutual) as client:
            client.handshake().ping()
        balancer.stop()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_other_signals(
    tmp_path: Path, pki: Pki, server: Backend, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """The same processes go on, with the connections they have and with new ones."""
    balancer = make(tmp_path, pki, server, "5s").start()
    request.addfinalizer(balancer.kill)
    family = balancer.processes()
    with connect(balancer.port("plain")) as old:
        for _ in range(3):
            balancer.signal(number)
            stays(lambda: balancer.exit_code is None, f"running after {number.name}", 0.2)
            with connect(balancer.port("plain")) as new:
                for client in (old, new):
                    client.sendall(b"ping")
                    assert client.recv(10) == b"ping"
        assert balancer.processes() == family
    balancer.stop()


def test_every_connection_is_logged(tmp_path: Path, pki: Pki, server: Backend, request: pytest.FixtureRequest) -> None:
    """What a second TERM cuts off at once is logged, however much: here certificates of 2 MB."""
    balancer = make(tmp_path, pki, server, "60s").start()
    request.addfinalizer(balancer.kill)
    names = [f"one-of-many-names-{number}.corp.example" for number in range(150)]
    context = client_context(pki.root.path, TLS13, pki.root.client("long", names=names))
    with ExitStack() as stack:
        clients = [stack.enter_context(TlsClient(balancer.port(), context)).handshake() for _ in range(CONNECTIONS)]
        server.wait_accepted(CONNECTIONS)
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: is_closed(balancer.port()), "the listeners close")
        balancer.signal(signal.SIGTERM)
        balancer.wait_exit(0)
        ports = {line["client_port"] for line in balancer.access.find(termination="shutdown")}
        missing = {client.port for client in clients} - ports
        assert not missing, f"{len(missing)} of {CONNECTIONS} lines are missing\n{balancer.describe()}"
