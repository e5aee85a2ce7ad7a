"""The door into the compiled code, and the sockets that tests put behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.running import Running


@pytest.fixture(scope="session")
def door() -> Any:
    """`nlbcore.engine._testing`; release builds have none."""
    return pytest.importorskip(
        "nlbcore.engine._testing", reason="the tests' door into the engine is in debug, trace and asan builds only"
    )


@pytest.fixture
def pair() -> Iterator[Callable[[], tuple[int, socket.socket]]]:
    """`pair()`: a connected pair over TCP; the first is a bare non-blocking descriptor, which the engine will own."""
    made: list[socket.socket] = []

    def make() -> tuple[int, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            theirs = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        made.append(theirs)
        theirs.settimeout(10)
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours.setblocking(False)
        return ours.detach(), theirs

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pipe_on(door: Any) -> Iterator[Callable[..., Any]]:
    """`pipe_on(FD, TLS)`: a transport, closed after the test."""
    made: list[Any] = []

    def make(*arguments: Any) -> Any:
        made.append(door.Pipe(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pump_on(door: Any) -> Iterator[Callable[..., Any]]:
    """`pump_on(CLIENT, SERVER, RESET_TRUNCATED)`: a relay, closed after the test."""
    made: list[Any] = []

    def make(*arguments: Any) -> Any:
        made.append(door.Pump(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Where the engine of `start` connects to; it accepts nothing by itself."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def start(server: socket.socket) -> Iterator[Callable[..., Running]]:
    """`start(CHANGES)`: a running engine with one listener, closed after the test; see `plan`."""
    made: list[Running] = []

    def running(**changes: Any) -> Running:
        made.append(Running([(0, 1, socket.AF_INET, server.getsockname())], **changes))
        return made[-1]

    yield running
    for one in made:
        one.close()
