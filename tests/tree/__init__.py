"""The tree itself: layers, sizes, a test for every source, and documents that tell the truth."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sources(*suffixes: str) -> list[Path]:
    """The product's sources with these suffixes, relative to the repository."""
    found = [
        path
        for folder in ("nlbcore", "cli/nlbcli", "bench/nlbbench")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes
    ]
    return sorted(path.relative_to(ROOT) for path in found)


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is read as one text."""
    return subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
