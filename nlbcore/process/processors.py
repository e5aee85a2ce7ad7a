"""How many processors this process may use: what the kernel lets it run on, and what its control group pays for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlbcore.config.model import Node

GROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own control group (version 2)."""


def processors(group: Path = GROUP) -> int:
    """At least 1; a quota of 1.5 processors is 2 workers."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return allowed


def processes(node: Node) -> int:
    """How many workers the configuration asks for."""
    return processors() if node.workers == "auto" else node.workers
