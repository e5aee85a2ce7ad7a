"""`nlb server ready`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.server.test_order import told

if TYPE_CHECKING:
    from pathlib import Path


def test_ready(tmp_path: Path) -> None:
    assert told(tmp_path, "ready", "app/a", admin="ready") == {"server_group": "app", "server": "a", "do": "ready"}
