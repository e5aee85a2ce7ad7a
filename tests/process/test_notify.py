"""systemd is told: READY=1 when connections are accepted, STOPPING=1 when the end begins; no child can speak in our name."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer
from tests.support.workers import PlainClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's socket, by a path or by an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify") if request.param == "path" else f"\0nlb-test-{os.getpid()}")
        listening.settimeout(10)
        yield listening


def address(manager: socket.socket) -> str:
    """As systemd writes it: the name of an abstract socket begins with @."""
    name = manager.getsockname()
    return name if isinstance(name, str) else "@" + name[1:].decode()


def test_ready_and_stopping(manager: socket.socket, tmp_path: Path, tables: Callable[..., dict[str, Any]]) -> None:
    """One message each, with a status line; both listeners accept by the time of the first."""
    balancer = Balancer(tmp_path, tables())
    balancer.environment["NOTIFY_SOCKET"] = address(manager)
    balancer.launch()
    try:
        said = manager.recv(4096).decode().splitlines()
        assert said[0] == "READY=1"
        assert said[1].startswith("STATUS=")
        client = PlainClient(balancer.port("plain"))
        client.ping()
        client.close()
        for process in (*balancer.titled("nlb: log writer"), *balancer.titled("nlb: prober")):
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        balancer.signal(signal.SIGTERM)
        said = manager.recv(4096).decode().splitlines()
        assert said[0] == "STOPPING=1"
        balancer.wait_exit(0)
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
    finally:
        balancer.kill()


def test_no_ready_without_a_start(
    manager: socket.socket, tmp_path: Path, tables: Callable[..., dict[str, Any]]
) -> None:
    """A start that fails says nothing of the kind."""
    configuration = tables()
    balancer = Balancer(tmp_path, configuration)
    balancer.environment["NOTIFY_SOCKET"] = address(manager)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", balancer.port("plain")))
        taken.listen()
        balancer.expected_stderr = lambda text: "another process listens there" in text
        balancer.launch()
        try:
            balancer.wait_exit(1)
        finally:
            balancer.kill()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
