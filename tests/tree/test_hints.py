"""ci/check_hints.py fails on what Cython says about a slow exception check, and on a log in which nothing was translated."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.tree import run

if TYPE_CHECKING:
    from pathlib import Path

HINT = "performance hint: nlbcore/engine/loop.pyx:9:5: Exception check on 'f' will always require the GIL to be acquired.\n"
TRANSLATED = "[1/1] Cythonizing nlbcore/engine/loop.pyx\n"


@pytest.mark.parametrize(
    ("log", "code"), [(TRANSLATED, 0), (TRANSLATED + HINT, 1), ("", 1)], ids=["clean", "hint", "nothing translated"]
)
def test_log(tmp_path: Path, log: str, code: int) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    assert run(sys.executable, "ci/check_hints.py", path).returncode == code
