"""The view of `nlb status`: columns where they fit, lists where they do not, plain text in a pipe, nothing to obey."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from nlbcli import _view as view

WORKER = {
    "slot": 0,
    "pid": 4711,
    "state": "running",
    "restarts": 0,
    "since": "2026-01-02T03:04:05Z",
    "connections": 1200,
    "heartbeat_age_ms": 40,
    "longest_stall_ms": 1.26,
}
SERVER = {
    "name": "a",
    "address": "10.0.0.1:80",
    "weight": 100,
    "state": "Available",
    "reason": "",
    "since": "2026-01-02T03:04:05Z",
    "connections": 7,
    "connections_total": 12345,
    "connect_failed": 0,
    "connect_timeout": 0,
}
STATUS: dict[str, Any] = {
    "node": "nlb-1",
    "version": "0.1.0",
    "pid": 4710,
    "generation": 3,
    "state": "running",
    "uptime_s": 183_999.0,
    "connections": 1234,
    "listeners": [
        {
            "name": "web",
            "bind": ["0.0.0.0:443", "[::]:443"],
            "protocol": "TCPSSL",
            "server_group": "app",
            "connections": 1234,
            "connections_total": 99_999,
            "received_bytes": 1_500_000,
            "sent_bytes": 999,
            "handshakes": {"TLSv1.3": {"full": 2000, "resumed": 500}},
            "terminations": {"unknown_ca": 3, "client_close": 88_000},
        }
    ],
    "server_groups": [
        {
            "name": "app",
            "scheduler": "wrr",
            "usable": 1,
            "fail_open": False,
            "servers": [
                SERVER,
                {**SERVER, "name": "b", "address": "10.0.0.2:80", "state": "Unhealthy", "reason": "CONNECT_FAILED"},
            ],
        }
    ],
    "certificates": [
        {
            "listener": "web",
            "path": "/etc/nlb/server.crt",
            "names": ["a.example", "b.example"],
            "not_after": "2026-02-01T00:00:00Z",
            "days_left": 29.87,
        }
    ],
    "crls": [{"listener": "web", "issuer": "CN=Root", "next_update": None, "days_left": None}],
    "workers": [WORKER, {**WORKER, "slot": 1, "pid": 0, "state": "down", "heartbeat_age_ms": None}],
}

WIDE = """\
nlb-1  running  generation 3, 1,234 connections
nlb 0.1.0, pid 4710, up 2 d 3 h

Listeners
  name  address                protocol  servers    now   total  received   sent
  web   0.0.0.0:443, [::]:443  TCPSSL    app      1,234  99,999    1.5 MB  999 B

Handshakes
  web: TLSv1.3 2,500 (500 resumed)

Ended
  web: client_close 88,000, unknown_ca 3

Servers of app (wrr)
  name  address      weight  state                     since                 now   total
  a     10.0.0.1:80     100  Available                 2026-01-02T03:04:05Z    7  12,345
  b     10.0.0.2:80     100  Unhealthy CONNECT_FAILED  2026-01-02T03:04:05Z    7  12,345

Certificates
  listener  file                 names                 expires               days left
  web       /etc/nlb/server.crt  a.example, b.example  2026-02-01T00:00:00Z       29.9

Revocation lists
  listener  issuer   next update
  web       CN=Root  never

Workers
  worker   pid  state    since                 restarts    now  heartbeat  stall ms
  0       4711  running  2026-01-02T03:04:05Z         0  1,200  40 ms ago       1.3
  1             down     2026-01-02T03:04:05Z         0  1,200  none yet        1.3
"""


def shown(status: dict[str, Any], width: int = 9999, *, colour: bool = False) -> str:
    """What is printed on a terminal of that width."""
    out = io.StringIO()
    system = "standard" if colour else None
    view.show(Console(file=out, width=width, force_terminal=colour, color_system=system, highlight=False), status)  # type: ignore[arg-type]
    return out.getvalue()


def changed(**changes: object) -> dict[str, Any]:
    return {**copy.deepcopy(STATUS), **changes}


def test_columns() -> None:
    assert shown(STATUS) == WIDE
    assert shown(STATUS, 90) == WIDE


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal(width: int) -> None:
    """Every line fits, and nothing is cut away."""
    text = shown(STATUS, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.replace(" ", "").replace("\n", "").count("/etc/nlb/server.crt") == 1
    if width == 60:
        assert "  web\n    address   0.0.0.0:443, [::]:443\n    protocol  TCPSSL\n" in text
        assert "\n  worker 1\n    state      down\n" in text


def test_colour() -> None:
    text = shown(STATUS, colour=True)
    assert "\x1b[32mrunning" in text
    assert "\x1b[1;31mdown" in text
    assert "\x1b[31m CONNECT_FAILED" in text or "CONNECT_FAILED" in text
    assert "\x1b[" not in shown(STATUS)


def test_a_group_that_is_not_well() -> None:
    group = {**STATUS["server_groups"][0], "usable": 0, "fail_open": True}
    assert "Servers of app (wrr)  none is usable: new connections go to all of them\n" in shown(
        changed(server_groups=[group])
    )
    group["fail_open"] = False
    assert "Servers of app (wrr)  none takes new connections\n" in shown(changed(server_groups=[group]))


def test_errors_of_servers_are_shown_when_there_are_any() -> None:
    group = {**STATUS["server_groups"][0], "servers": [{**SERVER, "connect_failed": 1234}]}
    text = shown(changed(server_groups=[group]))
    assert "total  failed\n" in text
    assert "12,345   1,234\n" in text


def test_an_empty_balancer() -> None:
    empty = changed(listeners=[], server_groups=[], certificates=[], crls=[], workers=[], connections=0)
    assert shown(empty).splitlines()[0] == "nlb-1  running  generation 3, 0 connections"
    assert len(shown(empty).splitlines()) == 2


def test_nothing_that_a_terminal_obeys() -> None:
    """Names of certificates are strangers' text, and square brackets are no markup."""
    certificate = {**STATUS["certificates"][0], "names": ["\x1b]0;x\x07a\n\x9b31m", "[red]x[/red]"]}
    text = shown(changed(certificates=[certificate]))
    assert "?]0;x?a??31m, [red]x[/red]" in text
    assert not any(letter in text for letter in "\x1b\x07\x9b")


def test_wide_letters_are_aligned() -> None:
    """A name of two-cell letters takes two cells each."""
    worker = {**WORKER, "state": "実行"}
    lines = shown(changed(workers=[worker, WORKER])).splitlines()[-2:]
    assert lines[0].index("2026") == lines[1].index("2026") - 2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (1_000_000, "1.0 MB"),
        (25 * 10**12, "25.0 TB"),
        (2**64, "18446.7 PB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert view._bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 s"), (90_061, "1 d 1 h"), (86400, "1 d 0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert view._duration(seconds) == text


@pytest.mark.parametrize(("left", "style"), [(-0.1, "bold red"), (13.9, "yellow"), (14.0, "")])
def test_days_left(left: float, style: str) -> None:
    assert str(view._days(left, 14).style) == style
