"""Programs that end with whoever started them, however that ends: orderly, by Ctrl-C, by an exception, or killed.

A proxy is a tree of processes, and some of it outlives its head (nginx's workers do, when their master is killed). So
each runs under a guard: a small process of its own that adopts what is orphaned below it (prctl(2),
PR_SET_CHILD_SUBREAPER) and ends everything below it when it is told to, when the program has ended, or when who started
it is gone (the end of a pipe, and PR_SET_PDEATHSIG as the second belt). The guard is in a session of its own: Ctrl-C on
the terminal reaches the harness alone, which ends the others in its order.

    with Guarded(["haproxy", "-W", "-f", "haproxy.cfg"], log) as running:
        running.pid, running.guard
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from nlbcore.errors import NlbError

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
"""Seconds that a program may take to end after SIGTERM."""


class Guarded:
    """A program that runs under a guard until `stop()`, or until this process ends.

    Args:
        command: the program's path and its arguments
        log: file for both of its outputs; what is there is kept
        cwd: its working directory
        patience: seconds that it may take to end after SIGTERM
        processors: where it runs; none: where this process does

    Raises:
        NlbError: it cannot be started
    """

    def __init__(
        self,
        command: list[str],
        log: Path,
        cwd: Path | None = None,
        patience: float = PATIENCE,
        processors: tuple[int, ...] = (),
    ) -> None:
        self.command = command
        self.log = log
        self._patience = patience
        self._guard = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", __name__),
                *(str(os.getpid()), str(patience), ",".join(map(str, processors)), str(log), *command),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        self._said = self._guard.stdout
        first = self._said.readline().decode()
        if not first.startswith("started "):
            self.stop()
            raise NlbError(f"{command[0]} cannot be started: {first.strip() or 'no answer'}")
        self.pid = int(first.split()[1])
        """Of the program."""
        self.guard = self._guard.pid
        """Of the process above it, which also adopts what the program leaves behind."""

    def alive(self) -> bool:
        """Whether the program itself runs."""
        return self._guard.poll() is None and psutil.pid_exists(self.pid)

    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """The program and everything below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.guard).children(recursive=True)
        return []

    def stop(self) -> None:
        """End it and all below it; may be called again."""
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(self._patience + PATIENCE)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


# ---------------------------------------------------------------- the guard itself


def die_with_parent() -> None:
    """SIGTERM for this process when its parent ends; holds across exec."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def main(arguments: list[str]) -> int:
    """PARENT PATIENCE PROCESSORS LOG COMMAND...: run the command until standard input ends, a signal comes, or it ends itself."""
    parent, patience, processors, log, *command = arguments
    die_with_parent()
    if processors:
        os.sched_setaffinity(0, map(int, processors.split(",")))
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print("prctl(PR_SET_CHILD_SUBREAPER) failed", flush=True)
        return 1
    if os.getppid() != int(parent):  # it has died before the kernel knew
        return 1
    wake, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        with Path(log).open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread here
            )
    except OSError as error:
        print((error.strerror or "failed").lower(), flush=True)
        return 1
    print(f"started {process.pid}", flush=True)
    while not asked and not _reap(process.pid):
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1):
            break
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
    _end(process.pid, float(patience))
    return 0


def _reap(pid: int) -> bool:
    """Whether the program has ended; orphans that have ended are let go too."""
    ended = False
    with contextlib.suppress(ChildProcessError):
        while (status := os.waitpid(-1, os.WNOHANG))[0]:
            ended = ended or status[0] == pid
    return ended


def _end(pid: int, patience: float) -> None:
    """SIGTERM for the program, SIGKILL after some patience for all that is left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while (below := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        _reap(pid)
        if not psutil.pid_exists(pid):
            break
        time.sleep(0.01)
    while below:
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        _reap(pid)
        time.sleep(0.01)
        below = psutil.Process().children(recursive=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
