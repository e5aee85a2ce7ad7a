"""What a tree of processes has used, from the kernel's accounting: CPU time in nanoseconds, memory of its own.

CPU: the clock of a process (clock_getcpuclockid(3)) counts all its threads, also those that have ended, in nanoseconds;
`/proc/PID/stat` counts in ticks of 10 ms. Children that have ended are in their parent's cutime and cstime, in ticks:
that matters only where processes come and go (a reload).

Memory: the proportional set size (`smaps_rollup`), summed over the tree. A page of one process counts whole, a page
that forked workers share counts once: what the tree would give back if it ended. The kernel's own memory (sockets)
is in no process and not counted.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from nlbcore.errors import NlbError

_FIELD = re.compile(r"^(Pss|SwapPss|Private_Clean|Private_Dirty): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """Bytes of user memory of a tree of processes."""

    proportional: int
    """Pages of its own, and its share of shared ones; swapped ones too."""
    private: int
    """Pages that no other process has."""


def tree(*roots: int) -> list[int]:
    """The processes and everything below them, as far as they still are there."""
    found: list[int] = []
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            found += [root, *(child.pid for child in process.children(recursive=True))]
    return found


def cpu_clock(pid: int) -> float:
    """CPU seconds of one process so far, all threads; 0 if it is gone (its parent has its time then)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process, see clock_getcpuclockid(3)
    except OSError:
        return 0.0


def cpu(*roots: int) -> float:
    """CPU seconds of trees of processes so far, their ended children included."""
    total = 0.0
    for pid in tree(*roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            total += times.children_user + times.children_system
        total += cpu_clock(pid)
    return total


def memory(*pids: int) -> Memory:
    """Of exactly these processes together.

    Raises:
        NlbError: one of them may not be looked at (another user's, or it has made itself undumpable)
    """
    proportional = private = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            raise NlbError(f"the memory of process {pid} may be seen by its own user and by root only") from None
        for name, size in _FIELD.findall(text):
            if name.startswith("Private"):
                private += int(size) << 10
            else:
                proportional += int(size) << 10
    return Memory(proportional, private)
