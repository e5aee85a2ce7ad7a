"""`nlb server maint`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.server.test_order import told

if TYPE_CHECKING:
    from pathlib import Path


def test_maint(tmp_path: Path) -> None:
    assert told(tmp_path, "maint", "app/a", admin="maint") == {"server_group": "app", "server": "a", "do": "maint"}
