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
    allowed, quota = len(os.sched_getaffinity(0)), _quota(group)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota(group: Path) -> float | None:
    """Processors that the control group pays for; None: as many as there are."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None


def processes(node: Node) -> int:
    """How many workers the configuration asks for."""
    return processors() if node.workers == "auto" else node.workers


def may_poll(node: Node, group: Path = GROUP) -> bool:
    """Whether workers may keep a processor busy while they wait: the configuration wants it, and they have one each."""
    return node.busy_poll and _quota(group) is None and processes(node) <= len(os.sched_getaffinity(0))
