"""What runs under a guard ends with the harness, however that ends, and with everything that it has left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nlbbench.guard import Guarded
from nlbcore.errors import NlbError
from tests.support.waiting import wait_until

FAMILY = ["sh", "-c", "sleep 1000 & setsid sleep 1000 & echo up; wait"]


def family(running: Guarded) -> list[psutil.Process]:
    """The shell and both of its children, once they are there."""
    wait_until(lambda: len(running.processes()) == 3, "the shell has its children")
    return running.processes()


def gone(processes: list[psutil.Process]) -> None:
    wait_until(lambda: not any(one.is_running() for one in processes), "all have ended")


def test_stopped_with_everything_below_it(tmp_path: Path) -> None:
    with Guarded(FAMILY, tmp_path / "log") as running:
        processes = family(running)
        assert running.alive()
        wait_until(running.output, "it has said something")
        assert running.output() == "up\n"
    assert not running.alive()
    gone(processes)


def test_its_own_end_takes_its_orphans_with_it(tmp_path: Path) -> None:
    with Guarded(FAMILY, tmp_path / "log") as running:
        processes = family(running)
        psutil.Process(running.pid).kill()
        gone(processes)
        wait_until(lambda: not running.alive(), "the guard has ended")


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done"]
    with Guarded(deaf, tmp_path / "log", patience=0.2) as running:
        wait_until(running.output, "the trap is set")
        processes = running.processes()
    gone(processes)


def test_the_harness_is_killed(tmp_path: Path) -> None:
    text = f"""
from pathlib import Path
from nlbbench.guard import Guarded
running = Guarded({FAMILY!r}, Path({str(tmp_path / "log")!r}))
while len(running.processes()) < 3: pass
print(running.guard, *(one.pid for one in running.processes()), flush=True)
input()
"""
    harness = subprocess.Popen(
        [sys.executable, "-P", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert harness.stdin is not None
    assert harness.stdout is not None
    processes = [psutil.Process(int(pid)) for pid in harness.stdout.readline().split()]
    assert len(processes) == 4
    harness.kill()
    assert harness.wait() == -signal.SIGKILL
    gone(processes)
    harness.stdin.close()
    harness.stdout.close()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NlbError, match=r"/no/such cannot be started: no such file"):
        Guarded(["/no/such"], tmp_path / "log")


def test_it_may_be_stopped_twice(tmp_path: Path) -> None:
    running = Guarded(["sleep", "1000"], tmp_path / "log")
    running.stop()
    running.stop()
    assert running.processes() == []
