"""A helper process, real ones: its first word, its death and restart with back-off, its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from nlbcore.errors import StartError
from nlbcore.observe.log import EventLog
from nlbcore.process.attendant import DELAYS, Attendant
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY = "os.write(control, b'R')\n"
OBEY = "os.read(control, 1)\n"


@dataclass
class Program:
    """Orders for a small Python program, which knows its end of the control socket as `control`."""

    text: str
    control: int
    interpreter: str = sys.executable

    @property
    def inherited(self) -> tuple[int, ...]:
        return (self.control,)

    def command(self) -> list[str]:
        return [self.interpreter, "-I", "-S", "-c", f"import os, sys\ncontrol = {self.control}\n{self.text}"]


class Helper:
    """An attendant with a program, and what was logged of it."""

    def __init__(self, log: Path, text: str) -> None:
        self.text = text
        self.interpreter = sys.executable
        self.log = log
        self.fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.attendant = Attendant("log_writer", self.orders, EventLog(self.fd, "debug"))

    def orders(self, control: int) -> Program:
        return Program(self.text, control, self.interpreter)

    def events(self) -> list[str]:
        """Without the time."""
        return [line.partition(" ")[2] for line in self.log.read_text().splitlines()]

    def dies(self, now: float) -> None:
        """It is seen to be dead, at `now`."""

        def gone() -> bool:
            self.attendant.tick(now)
            return self.attendant.pid == 0

        wait_until(gone, "its death is noticed")

    def close(self) -> None:
        self.attendant.close(5)
        os.close(self.fd)


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    """One that is obedient; not started."""
    made = Helper(tmp_path / "events", READY + OBEY)
    yield made
    made.close()


def test_a_life(helper: Helper) -> None:
    attendant = helper.attendant
    assert attendant.pid == 0
    attendant.start()
    attendant.await_ready(10)
    process = psutil.Process(attendant.pid)
    attendant.tick(time.monotonic())
    assert process.is_running()
    attendant.close(10)
    assert attendant.pid == 0
    assert not process.is_running(), "it has ended, and has been waited for"
    attendant.close(10)
    assert helper.events() == []
    assert attendant.restarts == 0


def test_it_inherits_its_end_and_no_more(helper: Helper, tmp_path: Path) -> None:
    """Fresh, with no key in its memory and no descriptor that is none of its business."""
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    found = tmp_path / "found"
    helper.text = (
        f"fds = {{int(name): os.readlink(f'/proc/self/fd/{{name}}') for name in os.listdir('/proc/self/fd')"
        f" if os.path.exists(f'/proc/self/fd/{{name}}')}}\n"
        f"open({str(found)!r}, 'w').write(f'{{sorted(set(fds) - {{control}})}} {{fds[0]}}')\n{READY}{OBEY}"
    )
    try:
        helper.attendant.start()
        helper.attendant.await_ready(10)
    finally:
        os.close(secret)
    assert found.read_text() == "[0, 1, 2] /dev/null"


@pytest.mark.parametrize(("text", "patience"), [("sys.exit(3)", 10.0), ("import time\ntime.sleep(30)", 0.05)])
def test_no_first_word(helper: Helper, text: str, patience: float) -> None:
    helper.text = text
    helper.attendant.start()
    with pytest.raises(StartError, match="the log writer did not start; what it printed stands above"):
        helper.attendant.await_ready(patience)
    helper.attendant.close(0.05)
    assert helper.attendant.pid == 0


def test_it_is_started_again_later_and_later(helper: Helper) -> None:
    attendant = helper.attendant
    attendant.start()
    attendant.await_ready(10)
    expected = []
    for restarts, delay in enumerate([*DELAYS, DELAYS[-1]]):
        now = time.monotonic()
        first = attendant.pid
        os.kill(first, signal.SIGKILL)
        helper.dies(now)
        expected.append(f"error log_writer_died reason=SIGKILL restart_in={delay:g}s")
        attendant.tick(now + delay * 0.9)
        assert (attendant.pid, attendant.restarts) == (0, restarts)
        attendant.tick(now + delay)
        attendant.await_ready(10)
        assert attendant.pid not in (0, first)
        assert attendant.restarts == restarts + 1
        expected.append(f"info log_writer_started pid={attendant.pid}")
    now = time.monotonic() + DELAYS[-1] + 1
    os.kill(attendant.pid, signal.SIGABRT)
    helper.dies(now)
    assert helper.events() == [*expected, "error log_writer_died reason=SIGABRT restart_in=0.1s"], (
        "one that has lived long begins anew"
    )


def test_an_exit_is_a_death_too(helper: Helper) -> None:
    helper.text = READY + "sys.exit(7)"
    helper.attendant.start()
    helper.attendant.await_ready(10)
    helper.dies(time.monotonic())
    assert helper.events() == ['error log_writer_died reason="exit status 7" restart_in=0.1s']
    helper.attendant.close(5)


def test_a_restart_that_fails_is_tried_again(helper: Helper) -> None:
    attendant = helper.attendant
    attendant.start()
    attendant.await_ready(10)
    now = time.monotonic()
    os.kill(attendant.pid, signal.SIGKILL)
    helper.dies(now)
    helper.interpreter = "/none"
    attendant.tick(now + 0.1)
    assert (attendant.pid, attendant.restarts) == (0, 0)
    assert helper.events()[-1] == 'error log_writer_not_started error="No such file or directory"'
    helper.interpreter = sys.executable
    attendant.tick(now + 0.9)
    assert attendant.pid == 0
    attendant.tick(now + 1.2)
    attendant.await_ready(10)
    assert attendant.restarts == 1


def test_one_that_ignores_the_end_is_killed(helper: Helper) -> None:
    helper.text = READY + "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(30)"
    helper.attendant.start()
    helper.attendant.await_ready(10)
    process = psutil.Process(helper.attendant.pid)
    begin = time.monotonic()
    helper.attendant.close(0.2)
    assert 0.2 <= time.monotonic() - begin < 5
    assert not process.is_running()
