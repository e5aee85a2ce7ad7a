"""A leashed program ends with its context, also if it does not want to, and with its parent, however that ends."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from nlbcli import _demo_leash
from nlbcli._demo_leash import leashed
from tests.support.waiting import wait_until

SLEEP = ("-n", "1", "import time; time.sleep(60)")
STUBBORN = ("-s", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)", *SLEEP)


def test_ends_with_the_context() -> None:
    with leashed("timeit", *SLEEP) as process:
        wait_until(lambda: "timeit" in psutil.Process(process.pid).cmdline()[3:4], "it has become the program")
        assert process.poll() is None
        assert psutil.Process(process.pid).ppid() == psutil.Process().pid
    assert process.returncode == -15


def test_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), leashed("timeit", *SLEEP) as process:
        raise ZeroDivisionError
    assert process.returncode is not None


def test_one_that_does_not_obey_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo_leash, "PATIENCE", 0.2)
    with leashed("timeit", *STUBBORN, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
    assert process.returncode == -9


def test_ends_with_its_parent() -> None:
    program = (
        "import time; from nlbcli._demo_leash import leashed\n"
        f"with leashed('timeit', *{SLEEP}) as process:\n    print(process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait_until(lambda: "timeit" in child.cmdline()[3:4], "it has become the program")
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of the child")


def test_whose_parent_has_gone_before_does_not_begin() -> None:
    command = [sys.executable, "-m", "nlbcli._demo_leash", "1", "/bin/echo", "begun"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
