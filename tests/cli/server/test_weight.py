"""`nlb server weight`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.server.test_order import told
from tests.support.balancer import nlb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("weight", [0, 100])
def test_weight(tmp_path: Path, weight: int) -> None:
    asked = told(tmp_path, "weight", "app/a", str(weight), admin="ready", weight=weight)
    assert asked == {"server_group": "app", "server": "a", "do": "weight", "weight": weight}


@pytest.mark.parametrize("weight", ["101", "-1", "half"])
def test_no_weight(weight: str) -> None:
    assert nlb("server", "weight", "--", "app/a", weight).returncode == 2
