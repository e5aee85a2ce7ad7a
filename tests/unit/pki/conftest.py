"""An authority to test with, new for each test (making one takes milliseconds)."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", name="Example")
