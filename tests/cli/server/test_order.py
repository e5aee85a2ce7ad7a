"""An order for a server: what is asked, what is told of it, and which names there may be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.errors import NlbError
from tests.support.balancer import nlb
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path


def told(tmp_path: Path, *arguments: str, admin: str, weight: int = 100) -> dict[str, Any]:
    """What `nlb server ...` asks of a balancer that does it."""
    result = {"server_group": "app", "server": "a", "admin": admin, "weight": weight, "connections": 1200}
    with Loop(tmp_path / "nlb.sock", lambda *_: result) as loop:
        done = nlb("server", *arguments, "--socket", loop.server.path)
        expected = f"{arguments[1]}: {admin}, weight {weight}, 1,200 connections\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
        done = nlb("server", *arguments, "--json", "--socket", loop.server.path)
        assert (done.returncode, json.loads(done.stdout)) == (0, result)
        (verb, asked), again = loop.seen
        assert (verb, asked) == again
        assert verb == "server"
        return asked


def test_names(tmp_path: Path) -> None:
    """Dots, colons and slashes may be in them; a group's ends at the first slash."""
    asked = told(tmp_path, "drain", "web.app:1/unix:/run/a.sock", admin="drain")
    assert asked == {"server_group": "web.app:1", "server": "unix:/run/a.sock", "do": "drain"}


@pytest.mark.parametrize("name", ["app", "app/", "/a"])
def test_no_name(tmp_path: Path, name: str) -> None:
    with Loop(tmp_path / "nlb.sock") as loop:
        done = nlb("server", "drain", name, "--socket", loop.server.path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "GROUP/SERVER" in done.stderr
        assert loop.seen == []


def test_an_unknown_server(tmp_path: Path) -> None:
    def refuse(verb: str, arguments: dict[str, Any]) -> None:
        raise NlbError("server group app has no server b")

    with Loop(tmp_path / "nlb.sock", refuse) as loop:
        done = nlb("server", "maint", "app/b", "--socket", loop.server.path)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "nlb: server group app has no server b\n")
