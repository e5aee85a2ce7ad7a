"""A folder with an authority in `ca`."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki.authority import Authority


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority.create(tmp_path / "ca", name="Example")
    return tmp_path
