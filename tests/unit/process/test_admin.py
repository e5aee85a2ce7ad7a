"""The admin process as it is started, over HTTP: what it serves, its orders, its heart, restarts on the same socket, its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest

from nlbcore.admin.page import PAGE
from nlbcore.process.admin import Orders
from nlbcore.process.attendant import hear, say
from tests.support.waiting import wait_until
from tests.unit.admin.published import BIND, Published
from tests.unit.observe.test_connections import live as record
from tests.unit.observe.test_connections import memfd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """What the supervisor holds for admin processes, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.published = Published()
        self.folder = folder
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.log = self.open_log("first")
        self.start()

    def open_log(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def start(self) -> None:
        self.published.beat()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            orders = self.orders(theirs.fileno())
            self.process = subprocess.Popen(
                orders.command(),
                pass_fds=[getattr(orders, name) for name in Orders.DESCRIPTORS],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        self.control.settimeout(20)
        assert hear(self.control) == ({"say": "ready"}, [])

    def orders(self, control: int) -> Orders:
        fds = self.published.segment.fd, self.published.facts.fd, control, self.listening.fileno(), self.log
        return Orders(*fds, "info", BIND)

    def said(self, packet: dict[str, str]) -> bool:
        """Wait until it has said this."""
        while (heard := hear(self.control)) is not None:
            if heard[0] == packet:
                return True
        return False

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        client.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = client.getresponse()
        body = answer.read()
        client.close()
        return answer, body

    def ended(self, code: int) -> None:
        """It has ended with this code, and said nothing."""
        assert self.process.wait(10) == code
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            assert stderr.read() == b""
        self.control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        if self.process.poll() is None:
            self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.listening.close()
        os.close(self.log)
        self.published.__exit__()


@pytest.fixture(scope="module")
def running(module_folder: Path) -> Iterator[Running]:
    with Running(module_folder) as one:
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """For what changes it."""
    with Running(tmp_path) as one:
        yield one


def test_every_path(running: Running) -> None:
    running.published.beat()
    codes = {path: running.get(path)[0].status for path in ("/", "/metrics", "/healthz", "/readyz", "/api/v1/status")}
    assert set(codes.values()) == {200}, codes
    answer, body = running.get("/")
    assert body == PAGE.read_bytes()
    assert answer.getheader("server") is None
    assert running.get("/", host="evil.example")[0].status == 421
    for method in ("POST", "HEAD"):
        client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        client.request(method, "/metrics")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (
            (200, b"") if method == "HEAD" else (405, b"read only: GET and HEAD\n")
        )
        client.close()


def test_events(running: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    client.request("GET", "/events")
    answer = client.getresponse()
    assert answer.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert answer.readline() == b"retry: 2000\n"
    uptimes = []
    for _ in range(2):
        data = answer.readline()
        assert answer.readline() == b"\n"
        status = json.loads(data.removeprefix(b"data: "))
        assert status["listeners"][0]["name"] == "web"
        uptimes.append(status["uptime_s"])
    assert 0.5 < uptimes[1] - uptimes[0] < 5
    client.close()


def test_connections(running: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    client.request("GET", "/api/v1/connections")
    assert running.said({"ask": "connections"})
    fds = [memfd(record(1, listener_row=4)), memfd(record(2))]
    say(running.control, {"connections": {"node": "nlb-1", "workers": [0, 1]}}, fds)
    for fd in fds:
        os.close(fd)
    found: dict[str, Any] = json.loads(client.getresponse().read())
    assert [(one["connection"], one["worker"]) for one in found["connections"]] == [(1, 0), (2, 1)]
    client.close()


def test_its_heart_beats(running: Running) -> None:
    """It says that it is alive: it may not write into the segment."""
    for _ in range(3):
        assert running.said({"say": "alive"})
    assert psutil.Process(running.process.pid).num_threads() == 1


def test_new_orders(own: Running) -> None:
    """Another event log; nothing of what came along is kept. What is broken is told there."""
    process = psutil.Process(own.process.pid)
    before = process.num_fds()
    second = own.open_log("second")
    orders = own.orders(-1)
    fds = sorted({orders.segment, orders.facts, orders.listening, second})
    places = {"segment": orders.segment, "facts": orders.facts, "listening": orders.listening, "events": second}
    say(own.control, {"orders": {**asdict(orders), **{name: fds.index(fd) for name, fd in places.items()}}}, fds)
    os.close(second)
    own.published.tell(server_groups=[{"name": "broken"}])
    assert own.get("/api/v1/status")[0].status == 500
    assert "admin_failed" in (own.folder / "second").read_text()
    assert (own.folder / "first").read_text() == ""
    wait_until(lambda: process.num_fds() == before, lambda: f"{process.num_fds()} descriptors, not {before}")


def test_killed_and_started_again(own: Running) -> None:
    """Who connects meanwhile waits, and is served by the next one."""
    own.process.kill()
    own.ended(-signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", own.port), 10) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        own.start()
        assert waiting.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_who_is_connected_when_the_end_comes_is_served(own: Running) -> None:
    """Once more; then the connection ends, and so does the process."""
    client = http.client.HTTPConnection("127.0.0.1", own.port, timeout=10)
    for last in (False, True):
        if last:
            own.control.close()
        client.request("GET", "/healthz")
        assert client.getresponse().read().startswith(b'{"healthy":')
    own.ended(0)
    client.close()


def test_signals_do_not_end_it_but_its_control_socket_does(own: Running) -> None:
    """Within a moment, whoever listens to events."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        own.process.send_signal(number)
    client = http.client.HTTPConnection("127.0.0.1", own.port, timeout=10)
    client.request("GET", "/events")
    answer = client.getresponse()
    assert answer.readline() == b"retry: 2000\n"
    own.control.close()
    assert answer.read().endswith(b"\n\n"), "a stream with its end"
    client.close()
    own.ended(0)
