"""CPU time and memory of a tree of processes are the kernel's, and complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nlbbench import accounting
from nlbcore.errors import NlbError
from tests.support.waiting import wait_until

BURN = """
import time, threading
def burn():
    while time.thread_time() < 0.3: pass
"""
EXACT = 0.1
"""Seconds by which the start of one interpreter may differ from that of another, on a busy machine."""


@contextmanager
def python(text: str) -> Iterator[int]:
    """A Python program that has said that it is ready, until the end."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{text}\nprint('ready', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        ("burn()", 0.3),
        (
            "two = [threading.Thread(target=burn) for _ in range(2)]; [t.start() for t in two]; [t.join() for t in two]",
            0.6,
        ),
        ("import os\nif not os.fork(): burn(); os._exit(0)\nos.wait()", 0.3),
        ("import os\nif not os.fork(): burn(); print('ready', flush=True); input()\ntime.sleep(1000)", 0.3),
    ],
    ids=["itself", "threads that have ended", "a child that has ended", "a child that lives"],
)
def test_cpu_time_is_counted(work: str, seconds: float) -> None:
    with python(BURN) as idle, python(f"{BURN}{work}") as busy:
        start_up = accounting.cpu(idle)
        assert seconds - EXACT < accounting.cpu(busy) - start_up < seconds + EXACT
        for child in accounting.tree(busy)[1:]:
            os.kill(child, signal.SIGKILL)


def test_the_clock_is_finer_than_a_tick() -> None:
    readings = {accounting.cpu_clock(os.getpid()) for _ in range(20)}
    assert len(readings) == 20
    assert max(readings) - min(readings) < 0.01


def test_several_roots() -> None:
    with python(BURN) as one, python(f"{BURN}burn()") as other:
        before = accounting.cpu(one) + accounting.cpu(other)
        both = accounting.cpu(one, other)
        assert before <= both <= accounting.cpu(one) + accounting.cpu(other)
        assert accounting.tree(one, other) == [one, other]


def test_a_process_that_is_gone_has_used_nothing() -> None:
    with python("") as pid:
        pass
    assert accounting.tree(pid) == []
    assert accounting.cpu(pid) == 0.0
    assert accounting.cpu_clock(pid) == 0.0
    assert accounting.memory(pid) == accounting.Memory(0, 0)


def test_memory_of_its_own() -> None:
    size = 32 << 20
    with python("") as small, python(f"held = b'x' * {size}") as large:
        grown = accounting.memory(large)
        start = accounting.memory(small)
        assert size * 0.95 < grown.proportional - start.proportional < size * 1.1
        assert size * 0.95 < grown.private - start.private < size * 1.1
        both = accounting.memory(small, large)
        assert both.private == pytest.approx(start.private + grown.private, rel=0.1)


def test_a_page_that_forked_processes_share_counts_once() -> None:
    size = 32 << 20
    text = f"import os\nheld = b'x' * {size}\nif not os.fork(): input()"
    with python(text) as parent:
        wait_until(lambda: len(accounting.tree(parent)) == 2, "the child is there")
        pids = accounting.tree(parent)
        found = accounting.memory(*pids)
        assert size * 0.95 < found.proportional < size * 1.8
        assert found.private < size / 2
        os.kill(pids[1], signal.SIGKILL)


def in_a_child_as_nobody(check: Callable[[], bool]) -> bool:
    """What the check says to a user who may not look (root may)."""
    child = os.fork()
    if child == 0:
        result = 2
        try:
            os.setgid(65534)
            os.setuid(65534)
            result = 0 if check() else 1
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_somebody_elses_memory() -> None:
    def refused(pid: int) -> bool:
        with pytest.raises(NlbError, match=f"the memory of process {pid} may be seen by its own user and by root only"):
            accounting.memory(pid)
        return True

    if os.geteuid() == 0:
        mine = os.getpid()
        assert in_a_child_as_nobody(lambda: refused(mine))
    else:
        assert refused(1)
