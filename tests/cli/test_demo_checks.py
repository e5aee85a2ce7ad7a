"""The demo's checks say when something is not as it should be; that they pass where it is, `nlb demo --once` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nlbcli import _demo_checks
from nlbcli._demo_checks import AccessLog, Clients
from nlbcli._demo_folder import furnish
from tests.support.backends import Backend, answer_then_close
from tests.support.balancer import Balancer, server_group, tls_listener


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    furnish(made, port=1, workers=1, backends=[2, 3])
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo_checks, "PATIENCE", 0.5)


@pytest.fixture
def open_door(folder: Path, tmp_path: Path) -> Iterator[Balancer]:
    """A balancer that asks nobody for a certificate, in front of one server."""
    listener = {
        **tls_listener(),
        "certificates": [{"certificate": str(folder / "server.crt"), "private_key": str(folder / "server.key")}],
    }
    with Backend(answer_then_close(b"HTTP/1.0 200 OK\r\n\r\nserver a\n")) as backend:
        tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}}
        with Balancer(tmp_path, tables) as balancer:
            yield balancer


def test_an_open_door_is_seen(open_door: Balancer, folder: Path) -> None:
    clients = Clients(folder, open_door.port(), AccessLog(open_door.access.path))
    spread = clients.spread(1)
    assert spread.problem == "not both servers have answered"
    assert spread.facts[0] == ("answered by", "server a 10 (TLSv1.3)")
    for check, alert in ((clients.without(), "certificate required"), (clients.revoked(), "certificate revoked")):
        assert check.problem == f'the alert "{alert}" was due'
        assert check.facts[0] == ("the client saw", "no alert")
    assert check.as_dict() == {
        "title": "client-2, whose certificate is revoked, is refused",
        "ok": False,
        "facts": {"the client saw": "no alert", "the log says": "nothing about it"},
        "problem": 'the alert "certificate revoked" was due',
    }


def test_a_closed_door_is_seen(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.touch()
    clients = Clients(folder, 1, AccessLog(log))  # nobody listens on port 1
    assert clients.spread(1).problem == "a client with a good certificate was not let in"
    assert clients.spread(1).facts == (("the client saw", "connection refused"),)
    assert clients.without().problem == 'the alert "certificate required" was due'


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text('{"client_port": 1}\n{"client_po')
    log = AccessLog(path)
    assert log.new() == [{"client_port": 1}]
    path.write_text('{"client_port": 1}\n{"client_port": 2}\n')
    assert log.of(2) == {"client_port": 2}
    assert log.of(3) == {}
