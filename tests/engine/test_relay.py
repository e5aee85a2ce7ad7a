"""The byte pump between two plain transports, round by round: back-pressure, half-close, and who is read to the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backends import reset
from tests.support.waiting import wait_until

Pair = Callable[[], tuple[int, socket.socket]]
SCRATCH = 65536
BUDGET = 131072


@pytest.fixture
def between(pump_on: Callable[..., Any], pair: Pair) -> tuple[Any, socket.socket, socket.socket]:
    """The pump, the client and the server."""
    client_fd, client = pair()
    server_fd, server = pair()
    return pump_on(client_fd, server_fd), client, server


def until(pump: Any, result: str) -> None:
    wait_until(lambda: pump.run() == result, result, 5)


def settle(pump: Any) -> None:
    """A round for the bytes and one for what comes behind them."""
    for _ in range(3):
        assert pump.run() == "wait"
        time.sleep(0.005)


Between = tuple[Any, socket.socket, socket.socket]


def test_both_directions(between: Between) -> None:
    pump, client, server = between
    client.sendall(b"up")
    server.sendall(b"down")
    assert pump.run() == "wait"
    assert server.recv(9) == b"up"
    assert client.recv(9) == b"down"
    assert pump.state() == {"received": 2, "sent": 4, "ending": "open", "up": 0, "down": 0}


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close(between: Between, first: str) -> None:
    """The other direction goes on; whoever ended first names the end."""
    pump, *ends = between
    ender, other = ends if first == "client" else ends[::-1]
    ender.sendall(b"last")
    ender.shutdown(socket.SHUT_WR)
    settle(pump)
    assert other.recv(9) == b"last"
    assert other.recv(9) == b""
    assert pump.state()["ending"] == f"{first}_close"
    other.sendall(b"goes on")
    settle(pump)
    assert ender.recv(9) == b"goes on"
    other.shutdown(socket.SHUT_WR)
    until(pump, "done")
    assert ender.recv(9) == b""
    assert pump.state()["ending"] == f"{first}_close"


def test_back_pressure(between: Between) -> None:
    """A server that does not read: what waits is bounded, the client is not read any more, and nothing is lost."""
    pump, client, server = between
    client.setblocking(False)
    data = bytes(range(256)) * 256 * 200
    sent = 0
    for _ in range(500):
        try:
            sent += client.send(data[sent : sent + SCRATCH])
        except BlockingIOError:
            if pump.state()["up"]:
                break
        pump.run()
        assert pump.state()["up"] <= SCRATCH
    assert pump.state()["up"], "the server's queue is full"
    assert pump.run() == "wait"
    server.sendall(b"the other direction goes on")
    pump.run()
    client.settimeout(5)
    assert client.recv(100) == b"the other direction goes on"
    client.shutdown(socket.SHUT_WR)
    server.settimeout(0.05)
    out = bytearray()
    while True:
        pump.run()
        try:
            piece = server.recv(1 << 20)
        except TimeoutError:
            continue
        if not piece:
            break
        out += piece
    assert bytes(out) == data[:sent]
    assert pump.state()["received"] == sent


def test_a_round_has_a_budget(between: Between) -> None:
    pump, client, server = between
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.setblocking(False)
    sent = client.send(bytes(1 << 20))
    if sent <= BUDGET + SCRATCH:
        pytest.skip("the kernel takes too little at once")
    server.setblocking(False)
    results = [pump.run()]
    assert results == ["again"]
    assert BUDGET <= pump.state()["received"] <= BUDGET + 2 * SCRATCH


def test_a_server_that_resets(between: Between) -> None:
    pump, client, server = between
    server.sendall(b"its last words")
    pump.run()
    assert client.recv(100) == b"its last words"
    reset(server)
    until(pump, "server broken")


def test_a_client_that_resets(between: Between) -> None:
    pump, client, _ = between
    reset(client)
    until(pump, "client broken")


def test_a_server_that_takes_no_more_is_read_to_its_end(between: Between) -> None:
    """It has answered and closed; what we send it is met by RST. Its answer still reaches the client."""
    pump, client, server = between
    server.sendall(b"refused: go away")
    server.close()
    client.sendall(b"a long request")
    settle(pump)
    client.sendall(b"its second part")
    until(pump, "done")
    assert pump.state()["ending"] == "server_close"
    assert client.recv(100) == b"refused: go away"


@pytest.mark.parametrize("reset_truncated", [True, False])
def test_a_client_that_is_cut_off(pump_on: Callable[..., Any], pair: Pair, reset_truncated: bool) -> None:
    client_fd, _client = pair()
    server_fd, server = pair()
    pump = pump_on(client_fd, server_fd, reset_truncated)
    pump.cut_off()
    assert pump.run() == ("truncated" if reset_truncated else "wait")
    assert pump.state()["ending"] == "truncated"
    if not reset_truncated:
        assert server.recv(1) == b""


def test_a_session_without_an_end_waits(between: Between) -> None:
    pump, _, _ = between
    for _ in range(3):
        assert pump.run() == "wait"
