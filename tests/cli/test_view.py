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
    "configured_weight": 100,
    "admin": "ready",
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
    "generations": [3],
    "admin": None,
    "reload": None,
    "attendants": [{"name": "log_writer", "pid": 4712, "state": "running", "restarts": 0}],
    "state": "running",
    "uptime_s": 183_999.0,
    "connections": 1234,
    "listeners": [
        {
            "name": "web",
            "bind": ["0.0.0.0:443", "[::]:443"],
            "protocol": "TCPSSL",
            "server_group": "app",
            "client_auth": "required",
            "max_connections": 0,
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

RELOAD = {"time": "2026-01-02T03:04:05Z", "successful": True, "trigger": "watch", "reason": "", "generation": 3}

WIDE = """\
nlb-1  running  generation 3, 1,234 connections
nlb 0.1.0, pid 4710, up 2 d 3 h

Listeners
  name  address                protocol  client auth  servers    now   total  received   sent
  web   0.0.0.0:443, [::]:443  TCPSSL    required     app      1,234  99,999    1.5 MB  999 B

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
    assert shown(STATUS, 97) == WIDE


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal(width: int) -> None:
    """Every line fits, and nothing is cut away."""
    text = shown(STATUS, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.replace(" ", "").replace("\n", "").count("/etc/nlb/server.crt") == 1
    if width == 60:
        assert "  web\n    address      0.0.0.0:443, [::]:443\n    protocol     TCPSSL\n" in text
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


def test_what_is_shown_only_when_there_is_something_to_say() -> None:
    """Older generations that live on, the admin's address, a limit, an order, a weight that is not the configured one."""
    listener = {**STATUS["listeners"][0], "max_connections": 5000}
    server = {**SERVER, "admin": "drain", "weight": 50, "state": "Draining"}
    group = {**STATUS["server_groups"][0], "servers": [server]}
    changes = {"listeners": [listener], "server_groups": [group], "generations": [1, 2, 3], "admin": "127.0.0.1:9180"}
    text = shown(changed(**changes))
    assert "generation 3 (1, 2 living on), 1,234 connections\n" in text
    assert "up 2 d 3 h, admin http://127.0.0.1:9180/\n" in text
    assert "  now    max   total" in text
    assert "1,234  5,000  99,999" in text
    assert "  weight  configured  order  state " in text
    assert "      50         100  drain  Draining" in text


def test_a_listener_without_client_certificates_is_seen() -> None:
    both = [{**STATUS["listeners"][0], "client_auth": "off", "protocol": word} for word in ("TCPSSL", "TCP")]
    lines = shown(changed(listeners=both)).splitlines()
    assert "TCPSSL    off " in lines[5]
    assert "off" not in lines[6]


def test_what_report_finds_and_what_ends_soon() -> None:
    """Nothing where nothing is to be said."""
    listener = STATUS["listeners"][0]
    found = {"client_auth": "report", "verdicts": {"accepted": 7, "unknown_ca": 9}, "expiring": {"7d": 0, "30d": 1200}}
    text = shown(changed(listeners=[{**listener, **found}]))
    assert f"Would be\n  {listener['name']}: unknown_ca 9, accepted 7\n" in text
    assert f"Client certificates that end\n  {listener['name']}: within 30d 1,200\n" in text
    for title in ("Would be", "Client certificates that end"):
        assert title not in shown(changed(listeners=[{**listener, "expiring": {"7d": 0}}]))


def test_the_last_reload() -> None:
    assert shown(changed(reload=RELOAD)).splitlines()[2] == "last reload 2026-01-02T03:04:05Z (watch)"
    last = {**RELOAD, "successful": False, "reason": "the key is of another\x1b certificate"}
    assert shown(changed(reload=last)).splitlines()[2] == (
        "reload refused 2026-01-02T03:04:05Z (watch), generation 3 stays in force: the key is of another? certificate"
    )


def test_attendants_that_do_not_run() -> None:
    down = {"name": "log_writer", "pid": 0, "state": "down", "restarts": 4}
    text = shown(changed(attendants=[down, {**down, "name": "prober", "state": "running"}]))
    assert text.endswith("\nNot running\n  process     state  restarts\n  log writer  down          4\n")


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


LIVE = {
    "connection": 1024,
    "worker": 0,
    "state": "relay",
    "listener": "web",
    "client_ip": "192.0.2.1",
    "client_port": 5,
    "client_cert_subject": "CN=\x1b[31m実行",
    "client_cert_proven": True,
    "received_bytes": 1,
    "sent_bytes": 2_000_000,
    "connection_time_ms": 61_000.5,
}


@pytest.mark.parametrize("many", [False, True])
def test_connections(many: bool) -> None:
    """Few on a terminal are a table; many, or in a pipe, are plain lines of the same columns."""
    out = io.StringIO()
    count = view._MANY + 1 if many else 2
    console = Console(file=out, width=200, force_terminal=True, color_system=None)
    view.show_connections(console, [LIVE, *[{**LIVE, "client_cert_subject": "CN=abcd"}] * (count - 1)])
    lines = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
    assert (lines[0] == "2 connections") == (not many)
    heading, first, second = lines[-3:] if not many else lines[:3]
    assert heading.split() == ["connection", "state", "listener", "client", "certificate", "received", "sent", "age"]
    assert first.replace("CN=?[31m実行", "CN=abcd     ") == second
    assert second.split() == [
        "1024",
        "relay",
        "web",
        "192.0.2.1:5",
        "CN=abcd",
        "1",
        "B",
        "2.0",
        "MB",
        "1",
        "min",
        "1",
        "s",
    ]
    assert len(out.getvalue().splitlines()) == count + (1 if many else 3)


@pytest.mark.parametrize(
    ("keys", "certificate"),
    [
        ({"client_cert_verdict": "accepted"}, "CN=abcd"),
        ({"client_cert_verdict": "unknown_ca"}, "CN=abcd (unknown_ca)"),
        ({"client_cert_proven": False}, "CN=abcd (not proven)"),
        ({"client_cert_subject": "", "client_cert_verdict": "no_certificate"}, ""),
    ],
)
def test_a_name_that_nobody_vouches_for_is_not_shown_bare(keys: dict[str, Any], certificate: str) -> None:
    assert view._connection({**LIVE, "client_cert_subject": "CN=abcd", **keys})["certificate"] == certificate


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


@pytest.mark.parametrize(
    ("left", "text", "style"),
    [
        (-2.34, "-2.3", "bold red"),
        (-0.01, "-0.1", "bold red"),
        (0.0, "0.0", "yellow"),
        (13.9, "13.9", "yellow"),
        (14, "14.0", ""),
    ],
)
def test_days_left(left: float, text: str, style: str) -> None:
    shown = view._days(left, 14)
    assert (str(shown), str(shown.style)) == (text, style)
