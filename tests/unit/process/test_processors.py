"""How many processors: what the kernel allows, and no more than the control group pays for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nlbcore.process.processors import may_poll, processors

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", ALLOWED),
        ("1000 100000", 1),
        ("100000 100000", 1),
        ("100001 100000", min(ALLOWED, 2)),
        ("150000 100000", min(ALLOWED, 2)),
        ("75000 25000", min(ALLOWED, 3)),
        ("99999999 100000", ALLOWED),
        ("0 100000", 1),
        ("", ALLOWED),
        ("100000", ALLOWED),
        ("a b", ALLOWED),
    ],
)
def test_quota(tmp_path: Path, quota: str, count: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processors(tmp_path) == count


def test_without_a_control_group(tmp_path: Path) -> None:
    assert processors(tmp_path / "none") == ALLOWED


def test_here() -> None:
    assert 1 <= processors() <= ALLOWED


def test_affinity(tmp_path: Path) -> None:
    """One that is bound to a single processor has one, whatever the quota."""
    (tmp_path / "cpu.max").write_text("400000 100000")
    script = (
        "import os, pathlib, sys\n"
        "from nlbcore.process.processors import processors\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(processors(pathlib.Path(sys.argv[1])), processors(pathlib.Path('/none')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 1\n", "")


@pytest.mark.parametrize(
    ("quota", "workers", "may"),
    [
        ("max 100000", 1, True),
        ("max 100000", ALLOWED, True),
        ("max 100000", ALLOWED + 1, False),
        ("150000 100000", 1, False),
    ],
)
def test_who_may_keep_a_processor_busy(tmp_path: Path, quota: str, workers: int, may: bool) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert may_poll(workers, tmp_path) is may


@pytest.mark.parametrize("above", ["", "system.slice", "system.slice/nlb.service"])
def test_the_least_quota_of_the_groups_above_counts(tmp_path: Path, above: str) -> None:
    """As `CPUQuota=` of a service, or of its slice."""
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/elsewhere\n0::/system.slice/nlb.service\n")
    (tmp_path / "system.slice" / "nlb.service").mkdir(parents=True)
    (tmp_path / "cpu.max").write_text("9900000 100000\n")
    (tmp_path / above / "cpu.max").write_text("50000 100000\n")
    assert processors(tmp_path, own) == 1
    assert not may_poll(1, tmp_path, own)
