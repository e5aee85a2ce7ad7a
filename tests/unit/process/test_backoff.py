"""Delays that grow and begin anew, and the words for how a process ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from nlbcore.process.backoff import Backoff, ended_by


def test_later_and_later() -> None:
    backoff = Backoff((0.1, 1.0, 5.0))
    assert backoff.due == 0.0
    assert [backoff.fail(100.0) for _ in range(4)] == [0.1, 1.0, 5.0, 5.0]
    assert backoff.due == 105.0
    backoff.settled()
    assert backoff.fail(200.0) == 0.1
    assert backoff.due == pytest.approx(200.1)


def test_not_so_late_this_time() -> None:
    backoff = Backoff((0.1, 5.0, 30.0))
    assert [backoff.fail(0.0, 1.0), backoff.fail(0.0, 1.0), backoff.fail(0.0)] == [0.1, 1.0, 30.0]


def test_no_hope() -> None:
    backoff = Backoff((0.1, 5.0, 30.0))
    backoff.despair()
    assert backoff.fail(0.0) == 30.0
    backoff.settled()
    assert backoff.fail(0.0) == 0.1


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("", "exit status 0"),
        (f"import os; os.kill(os.getpid(), {signal.SIGKILL})", "SIGKILL"),
        (f"import os; os.kill(os.getpid(), {signal.SIGRTMIN + 1})", f"signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_how_it_ended(program: str, words: str) -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", program])
    assert ended_by(process.wait()) == words


def test_as_waitpid_tells_it() -> None:
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended_by(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) == "SIGTERM"
