"""`nlb log level`: it asks or changes, and says what it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.balancer import nlb
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path


def test_level(tmp_path: Path) -> None:
    level = "info"

    def answer(verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        nonlocal level
        was, level = level, arguments.get("level", level)
        return {"level": level, "was": was}

    with Loop(tmp_path / "nlb.sock", answer) as loop:
        where = ("--socket", loop.server.path)
        assert nlb("log", "level", *where).stdout == "info\n"
        assert nlb("log", "level", "debug", *where).stdout == "debug (was info)\n"
        assert nlb("log", "level", "debug", *where).stdout == "debug\n"
        assert json.loads(nlb("log", "level", "error", "--json", *where).stdout) == {"level": "error", "was": "debug"}
        assert loop.seen == [("log", {}), *[("log", {"level": word}) for word in ("debug", "debug", "error")]]
        done = nlb("log", "level", "loud", *where)
        assert (done.returncode, done.stdout, len(loop.seen)) == (2, "", 4)
