"""`nlb kill`: by number, by filter or all, never by accident; who was closed is told, and that nobody was is an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.control.server import Reply
from tests.support.balancer import nlb
from tests.unit.control.running import Loop
from tests.unit.observe.test_connections import NAMES, live, memfd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certs import Pki


@pytest.fixture
def loop(tmp_path: Path, pki: Pki) -> Iterator[Loop]:
    """Three connections live: of the client, of nobody known, and one at the other server."""
    alive = {
        1024: live(1024, server_row=5, der=pki.client.der),
        2049: live(2049, server_row=5),
        3072: live(3072, listener_row=3, group_row=2, server_row=9),
    }

    def answer(verb: str, arguments: dict[str, Any]) -> dict[str, Any] | Reply:
        if verb == "conns":
            return Reply({"node": "", "names": NAMES, "workers": [0]}, [memfd(b"".join(alive.values()))])
        return {"killed": sum(alive.pop(number, None) is not None for number in arguments["connections"])}

    with Loop(tmp_path / "nlb.sock", answer) as made:
        yield made


def kill(loop: Loop, *arguments: str) -> tuple[int, str, str]:
    done = nlb("kill", "--socket", loop.server.path, *arguments)
    return done.returncode, done.stdout, done.stderr


def test_by_number(loop: Loop) -> None:
    assert kill(loop, "1024", "5", "2049") == (0, "2 connections closed\n", "")
    assert loop.seen == [("kill", {"connections": [1024, 5, 2049]})]
    assert kill(loop, "1024") == (1, "", "nlb: there is no such connection\n")
    code, stdout, _ = kill(loop, "1024", "--json")
    assert (code, json.loads(stdout)) == (1, {"killed": 0})
    assert kill(loop, "3072", "--json") == (0, '{"killed": 1}\n', "")


def test_by_filter(loop: Loop) -> None:
    assert kill(loop, "--identity", "nobody") == (1, "", "nlb: no connection matches\n")
    assert kill(loop, "--server", "app/b", "--identity", "client-1") == (0, "1 connection closed\n", "")
    assert loop.seen[-1] == ("kill", {"connections": [1024]})
    assert kill(loop, "--server", "app/b") == (0, "1 connection closed\n", "")
    assert loop.seen[-1] == ("kill", {"connections": [2049]})


def test_all(loop: Loop) -> None:
    assert kill(loop, "--all") == (0, "3 connections closed\n", "")
    assert kill(loop, "--all") == (1, "", "nlb: no connection matches\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--json",),
        ("1024", "--all"),
        ("1024", "--listener", "web"),
        ("--all", "--client", "::1"),
        ("web",),
        ("--", "-1"),
    ],
    ids=" ".join,
)
def test_nobody_is_closed_by_accident(loop: Loop, arguments: tuple[str, ...]) -> None:
    code, stdout, _ = kill(loop, *arguments)
    assert (code, stdout, loop.seen) == (2, "", [])
