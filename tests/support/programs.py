"""Other programs that tests use (openssl, curl, nginx), and what to do where one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def need(program: str) -> str:
    """The path of `program`; without it the test is skipped, or fails where NLB_TESTS_NO_SKIP=1 says that all must be there."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is not None:
        return path
    if os.environ.get("NLB_TESTS_NO_SKIP") == "1":
        pytest.fail(f"{program} is not installed, and NLB_TESTS_NO_SKIP=1 allows no skip")
    pytest.skip(f"{program} is not installed")


def run(
    *command: str, cwd: Path | None = None, data: bytes = b"", timeout: float = 30.0, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end with `data` on its stdin; with `check`, a non-zero exit fails with the program's output."""
    done = subprocess.run(
        [need(command[0]), *command[1:]], cwd=cwd, input=data, capture_output=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}"
        )
    return done
