"""sd_notify: what a service manager would receive, on both kinds of socket, and nothing where there is none."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nlbcore.process import notify
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


def test_a_manager_that_does_not_read_is_not_waited_for_long(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_PATIENCE", 0.01)
    notifier = Notifier()
    started = time.monotonic()
    for _ in range(15):  # more than net.unix.max_dgram_qlen
        notifier.status("x" * 30_000)
    assert time.monotonic() - started < 5
