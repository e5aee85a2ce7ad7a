"""Servers are started and stopped with the block, on addresses of every kind."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil
import pytest

from nlbbench.backends import serve
from nlbbench.client import LoadError
from nlbbench.load import run
from nlbbench.spec import Backend, Load, Population, Target, Work

if TYPE_CHECKING:
    from pathlib import Path


def test_addresses_and_processes(tmp_path: Path) -> None:
    for address in ("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/echo.sock"):
        with serve(Backend.ECHO, address, processes=2) as server:
            assert len(server.pids) == 2
            load = Load(
                Target(server.address, tls=False),
                (Population("one", Work.ECHO, connections=4, count=100),),
                duration=None,
                warmup=0.0,
            )
            outcome = run(load)
            assert (outcome.populations[0].done, outcome.failures) == (100, 0)
            assert server.cpu() > 0
        assert not any(psutil.pid_exists(pid) for pid in server.pids)


def test_an_address_that_cannot_be_used() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LoadError, match=f"{address}: Address already in use"), serve(Backend.ECHO, address):
            pass
    for wrong in ("nonsense", "systemd:x"):
        with pytest.raises(LoadError), serve(Backend.ECHO, wrong):
            pass
