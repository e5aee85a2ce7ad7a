"""How many processors this process may use: what the kernel lets it run on, and what its control groups pay for."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlbcore.config.model import Node

ROOT = Path("/sys/fs/cgroup")
"""Of the control groups (version 2); in a container it is the container's own."""
OWN = Path("/proc/self/cgroup")


def processors(root: Path = ROOT, own: Path = OWN) -> int:
    """At least 1; a quota of 1.5 processors is 2 workers."""
    allowed, quota = len(os.sched_getaffinity(0)), _quota(root, own)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def processes(node: Node) -> int:
    """How many workers the configuration asks for."""
    return processors() if node.workers == "auto" else node.workers


def may_poll(workers: int, root: Path = ROOT, own: Path = OWN) -> bool:
    """Whether so many workers may keep a processor busy while they wait: they have one each, and no quota to use up."""
    return _quota(root, own) is None and workers <= len(os.sched_getaffinity(0))


def _quota(root: Path, own: Path) -> float | None:
    """Processors that the control group, or one above it, pays for; None: as many as there are."""
    paid = []
    for group in _groups(root, own):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (group / "cpu.max").read_text().split()
            paid.append(int(quota) / int(period))
    return min(paid, default=None)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """From the root to our own, see cgroups(7)."""
    yield root
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            if line.startswith("0::/"):
                group = root
                for part in Path(line[4:]).parts:
                    group /= part
                    yield group
