"""sd_notify: what a service manager would receive, on both kinds of socket, and nothing where there is none."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nlbcore.process.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end, with its address in the environment."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@nlb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(name if request.param == "path" else "\0" + name[1:])
        made.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield made


def test_the_life_of_a_service(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("2 listeners, 3 servers")
    notifier.status("5 connections")
    notifier.stopping("draining")
    assert [manager.recv(4096) for _ in range(3)] == [
        b"READY=1\nSTATUS=2 listeners, 3 servers",
        b"STATUS=5 connections",
        b"STOPPING=1\nSTATUS=draining",
    ]


def test_without_a_status(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.stopping()
    assert [manager.recv(4096) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


def test_a_status_is_one_line(manager: socket.socket) -> None:
    """A name in it must not become a field of its own."""
    Notifier().status("a\nMAINPID=1\r\n b\udcff")
    assert manager.recv(4096) == rb"STATUS=a MAINPID=1 b\udcff"


def test_it_is_taken_out_of_the_environment(manager: socket.socket) -> None:
    notifier = Notifier()
    assert "NOTIFY_SOCKET" not in os.environ
    Notifier().ready()  # another one has nobody to speak to
    notifier.status("first")
    assert manager.recv(4096) == b"STATUS=first"


@pytest.mark.parametrize("value", [None, "", "relative", "vsock:2:1234", "@", "/nowhere/notify", "/" + "x" * 200])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    notifier = Notifier()
    notifier.ready("x")
    notifier.stopping()


def test_a_reload_and_an_upgrade(manager: socket.socket) -> None:
    notifier = Notifier()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading("generation 2")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    found = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=generation 2", manager.recv(4096))
    assert found is not None
    assert before <= int(found[1]) <= after
    notifier.reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(4096))
    notifier.main_pid(4711)
    notifier.watchdog()
    assert [manager.recv(4096) for _ in range(2)] == [b"MAINPID=4711", b"WATCHDOG=1"]


@pytest.mark.parametrize(
    ("limit", "pid", "interval"),
    [
        ("3000000", None, 1.5),
        ("3000000", "ours", 1.5),
        ("3000000", "1", None),
        ("3000000", "x", None),
        ("0", None, None),
        ("-5", None, None),
        ("x", None, None),
        (None, "ours", None),
    ],
)
def test_the_watchdog(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, limit: str | None, pid: str | None, interval: float | None
) -> None:
    """A program that takes over is watched too; WATCHDOG_PID would tell it that it is not."""
    address = os.environ["NOTIFY_SOCKET"]
    for name, value in (("WATCHDOG_USEC", limit), ("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    notifier = Notifier()
    assert notifier.interval == interval
    assert notifier.environment == {"NOTIFY_SOCKET": address} | ({"WATCHDOG_USEC": limit} if interval else {})
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_no_watchdog_without_a_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    notifier = Notifier()
    assert (notifier.interval, notifier.environment) == (None, {})


@pytest.mark.timeout(5)
def test_a_manager_that_does_not_read(manager: socket.socket) -> None:
    """It is not waited for; what it must know comes when it reads again, in order and without what is out of date."""
    notifier = Notifier()
    for _ in range(600):  # more than net.unix.max_dgram_qlen
        notifier.status("x" * 30_000)
    notifier.ready("1")
    notifier.watchdog()
    notifier.reloading()
    while _more(manager):
        assert manager.recv(65536).startswith(b"STATUS=x")
    notifier.status("2")
    said = [manager.recv(4096) for _ in range(3)]
    assert [said[0], said[1][:12], said[2]] == [b"READY=1\nSTATUS=1", b"RELOADING=1\n", b"STATUS=2"]
    for _ in range(600):
        notifier.status("x")
    for number in range(40):
        notifier.main_pid(number)
    while _more(manager):
        manager.recv(65536)
    notifier.flush()
    said = []
    while _more(manager):
        said.append(manager.recv(4096))
        notifier.flush()
    assert said == [b"MAINPID=%d" % number for number in range(24, 40)]


def _more(manager: socket.socket) -> bool:
    return bool(select.select([manager], [], [], 0)[0])
