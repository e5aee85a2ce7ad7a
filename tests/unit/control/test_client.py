"""The client: every way of not getting an answer has its error and exit code; `stop` returns when the process has gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.control.client import KILLED_AT_ONCE, call, call_with_descriptors, kill, problems, stop, summary
from nlbcore.control.protocol import ProtocolError, encode, success
from nlbcore.control.server import Pending
from nlbcore.errors import BusyError, DeniedError, NlbError, NotRunningError, RefusedError
from tests.support.waiting import wait_until
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nlb.sock"


def test_a_result(path: Path) -> None:
    with Loop(path) as loop:
        assert call(path, "status", {"a": [1]}) == {"verb": "status", "a": [1]}
        assert loop.seen == [("status", {"a": [1]})]


def test_a_large_result(path: Path) -> None:
    with Loop(path, lambda verb, _: {"text": "x" * 3_000_000}):
        assert len(call(path, "status")["text"]) == 3_000_000


def test_a_refusal_keeps_its_exit_code(path: Path) -> None:
    def refuse(verb: str, arguments: dict[str, Any]) -> None:
        raise DeniedError("not you")

    with Loop(path, refuse):
        with pytest.raises(RefusedError, match="not you") as caught:
            call(path, "status")
        assert caught.value.exit_code == 77
        with pytest.raises(RefusedError, match="not you"):
            stop(path)


def test_refused_before_anything_is_read(path: Path) -> None:
    with Loop(path) as loop:
        loop.kin.add(os.getpid())
        with pytest.raises(RefusedError, match="part of the balancer") as caught:
            call(path, "status", {"text": "x" * 60_000})
        assert caught.value.exit_code == 77


@pytest.mark.parametrize("kind", ["nothing", "no folder", "stale", "file", "below a file"])
def test_nobody_there(path: Path, kind: str) -> None:
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    elif kind == "file":
        path.touch()
    elif kind == "no folder":
        path = path.parent / "a" / "nlb.sock"
    elif kind == "below a file":
        path.touch()
        path = path / "nlb.sock"
    for ask in (lambda: call(path, "status"), lambda: stop(path)):
        with pytest.raises(NotRunningError) as caught:
            ask()
        assert str(caught.value) == f"no running balancer at {path}"
        assert caught.value.exit_code == 69


def test_another_users_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DeniedError) as caught:
        call(path, "status")
    assert caught.value.exit_code == 77
    assert str(path) in str(caught.value)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(NlbError, match="too long"):
        call(tmp_path / ("x" * 108), "status")


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen(0)
        yield made


def test_a_balancer_that_hangs(path: Path, listener: socket.socket) -> None:
    """It accepts nothing: first a place in its queue is had, then not even that."""
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(BusyError, match="does not answer in time") as caught:
            call(path, "status", timeout=0.1)
        assert caught.value.exit_code == 75
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "has ended the connection without an answer"),
        (b"\x00\x00", "has ended the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "too large"),
        (encode({"hello": 1}), "without a protocol version"),
        (encode({"version": 7, "ok": True, "result": {}}), "of different versions of nlb"),
    ],
    ids=["nothing", "half", "http", "json", "version"],
)
def test_no_balancer(path: Path, listener: socket.socket, data: bytes, told: str) -> None:
    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(data)

    server = threading.Thread(target=serve)
    server.start()
    with pytest.raises(NlbError, match=told) as caught:
        call(path, "status")
    server.join()
    assert isinstance(caught.value, ProtocolError) == bool(len(data) > 2)
    assert caught.value.exit_code == 1


def test_as_long_as_it_takes(path: Path) -> None:
    pending = Pending()
    with Loop(path, lambda verb, _: pending) as loop:
        with pytest.raises(BusyError, match="does not answer in time"):
            call(path, "reload", timeout=0.05)
        wait_until(lambda: pending.gone, "the end of that one")
        pending = Pending()
        later = threading.Timer(0.1, lambda: loop.do(lambda: pending.resolve({"generation": 2})))
        later.start()
        assert call(path, "reload", timeout=None) == {"generation": 2}
        later.join()


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_descriptors_that_got_lost(path: Path, listener: socket.socket, sent: int) -> None:
    """Those that have arrived are closed."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            socket.send_fds(sock, [encode(success({}, 2))], [sock.fileno()] * sent)

    server = threading.Thread(target=serve)
    server.start()
    with pytest.raises(ProtocolError, match=f"{sent} of 2 descriptors have arrived"):
        call_with_descriptors(path, "conns")
    server.join()


def test_kill_asks_as_often_as_it_must(path: Path) -> None:
    """However many there are, in requests that the balancer takes."""
    everybody = [2**64 - 1 - number for number in range(2 * KILLED_AT_ONCE + 1)]
    with Loop(path, lambda verb, arguments: {"killed": len(arguments["connections"])}) as loop:
        assert kill(path, everybody) == len(everybody)
        assert [verb for verb, _ in loop.seen] == ["kill"] * 3
        assert [one for _, arguments in loop.seen for one in arguments["connections"]] == everybody
        assert kill(path, []) == 0


# -- stop -------------------------------------------------------------------------------------------------------------

BALANCER = """
import json, selectors, sys, time
from pathlib import Path
from nlbcore.control.server import ControlServer
asked = []
def answer(verb, arguments):
    asked.append(json.dumps([verb, arguments]))
    return None
server = ControlServer(Path(sys.argv[1]), answer, tuple)
with selectors.DefaultSelector() as selector:
    server.register(selector)
    print("ready", flush=True)
    while not asked or sys.argv[2] == "hang":
        for key, mask in selector.select():
            key.data(mask)
    print(asked[0], flush=True)
    if sys.argv[2] == "slow":
        server.close()
        time.sleep(0.2)
"""


def balancer(path: Path, manner: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", BALANCER, path, manner], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("manner", "now"), [("exit", True), ("slow", False)])
def test_stop_returns_when_the_process_has_gone(path: Path, manner: str, now: bool) -> None:
    """Also where the connection ends a while before the process does."""
    with balancer(path, manner) as process:
        stop(path, now=now, timeout=10)
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == ["stop", {"now": now}]


def test_stop_waits_no_longer_than_it_is_told(path: Path) -> None:
    with balancer(path, "hang") as process:
        with pytest.raises(BusyError, match="has not stopped yet"):
            stop(path, timeout=0.1)
        process.kill()


def test_a_balancer_that_is_killed_has_stopped(path: Path) -> None:
    with balancer(path, "hang") as process:
        killer = threading.Timer(0.1, process.kill)
        killer.start()
        stop(path, timeout=10)
        killer.join()


# -- judging a status -------------------------------------------------------------------------------------------------


def status(**changes: object) -> dict[str, Any]:
    """A status without a blemish, but for the changes."""
    worker = {"slot": 0, "state": "running", "heartbeat_age_ms": 50}
    servers = [{"weight": 100}, {"weight": 100}, {"weight": 0}]
    return {
        "state": "running",
        "generation": 1,
        "reload": None,
        "attendants": [{"name": "log_writer", "state": "running"}],
        "connections": 1,
        "listeners": [{}],
        "workers": [worker, {**worker, "slot": 1}],
        "server_groups": [{"name": "app", "usable": 2, "fail_open": False, "servers": servers}],
        "certificates": [{"listener": "web", "path": "/c.crt", "days_left": 30.0}],
        "crls": [{"listener": "web", "issuer": "CN=Root", "days_left": 1.0}],
        **changes,
    }


def test_all_is_well() -> None:
    assert problems(status(), 14) == []
    assert problems(status(certificates=[], crls=[], server_groups=[]), 14) == []
    expected = "generation 1, 1 listener, 2 of 2 servers usable, 1 connection, 2 workers, first certificate "
    assert summary(status()) == expected + "expires in 30.0 days"
    assert summary(status(certificates=[])).endswith("2 workers")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "draining"}, ["the balancer is draining"]),
        ({"state": "starting"}, ["the balancer is starting"]),
        (
            {"workers": [{"slot": 0, "state": "down"}, {"slot": 1, "state": "running", "heartbeat_age_ms": None}]},
            ["worker 0 is down"],
        ),
        ({"workers": [{"slot": 0, "state": "running", "heartbeat_age_ms": 4200}]}, ["worker 0 has not moved for 4 s"]),
        ({"workers": [{"slot": 0, "state": "down"}]}, ["worker 0 is down", "no worker is running"]),
        ({"workers": []}, ["no worker is running"]),
        (
            {"workers": [{"slot": 0, "state": "running", "heartbeat_age_ms": 1}, {"slot": 1, "state": "retired"}]},
            [],
        ),
        ({"reload": {"successful": True, "reason": ""}}, []),
        (
            {"generation": 4, "reload": {"successful": False, "reason": "2 errors in nlb.toml"}},
            ["the last reload was refused, generation 4 stays in force: 2 errors in nlb.toml"],
        ),
        (
            {"attendants": [{"name": "log_writer", "state": "silent"}, {"name": "prober", "state": "down"}]},
            ["the log writer is silent", "the prober is down"],
        ),
        (
            {"server_groups": [{"name": "app", "usable": 0, "fail_open": True}]},
            ["server group app has no usable server: new connections go to all of them"],
        ),
        (
            {"server_groups": [{"name": "app", "usable": 0, "fail_open": False}]},
            ["server group app has no usable server"],
        ),
        (
            {"certificates": [{"listener": "web", "path": "/c.crt", "days_left": 13.9}]},
            ["certificate /c.crt of listener web expires in 13.9 days"],
        ),
        (
            {"certificates": [{"listener": "web", "path": "/c.crt", "days_left": -0.5}]},
            ["certificate /c.crt of listener web expired 0.5 days ago"],
        ),
        (
            {
                "crls": [
                    {"listener": "web", "issuer": "CN=A", "days_left": -1.0},
                    {"listener": "web", "issuer": "CN=B", "days_left": None},
                ]
            },
            ["the revocation list of CN=A of listener web is overdue"],
        ),
    ],
    ids=str,
)
def test_what_is_not_well(changes: dict[str, object], told: list[str]) -> None:
    assert problems(status(**changes), 14) == told


def test_the_days_of_a_certificate_can_be_chosen() -> None:
    assert problems(status(), 31) == ["certificate /c.crt of listener web expires in 30.0 days"]
    assert problems(status(certificates=[{"listener": "web", "path": "/c.crt", "days_left": 0.1}]), 0) == []
