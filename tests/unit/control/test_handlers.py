"""What `status` answers for a hand-made view: sums over all slots, verdicts in words, days left, fail-open."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.config.model import Config
from nlbcore.control import protocol
from nlbcore.control.handlers import CertificateView, CrlView, View, WorkerView, by_verb, status
from nlbcore.errors import NlbError
from nlbcore.segment import REASONS, STATES, Segment
from nlbcore.termination import Termination

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Config.model_validate(
    {
        "listeners": {
            "web": {"bind": ["127.0.0.1:8443", "[::1]:8443"], "server_group": "app"},
            "plain": {"bind": "unix:/run/plain.sock", "protocol": "TCP", "server_group": "other"},
        },
        "server_groups": {
            "app": {
                "scheduler": "rr",
                "servers": [
                    {"address": "10.0.0.1:80", "name": "a"},
                    {"address": "10.0.0.2:80", "weight": 50},
                    {"address": "10.0.0.3:80", "name": "out", "weight": 0},
                ],
            },
            "other": {"health_check": {"enabled": False}, "servers": [{"address": "10.0.0.4:80", "name": "a"}]},
        },
    }
)
LISTENERS = {"web": 3, "plain": 0}
SERVERS = {("app", "a"): 7, ("app", "10.0.0.2:80"): 8, ("app", "out"): 9, ("other", "a"): 0}


@pytest.fixture(scope="module")
def shared() -> Iterator[Segment]:
    made = Segment.create(3)
    yield made
    os.close(made.fd)


@pytest.fixture
def segment(shared: Segment) -> Segment:
    """A segment of three slots, all zeros."""
    ctypes.memset(ctypes.addressof(shared.shared), 0, ctypes.sizeof(shared.shared))
    for slot in range(shared.slots):
        block = shared.block(slot)
        ctypes.memset(ctypes.addressof(block), 0, ctypes.sizeof(block))
    return shared


@pytest.fixture
def view(segment: Segment) -> View:
    return View(
        node="nlb-1",
        version="0.1.0",
        pid=100,
        generation=4,
        started=time.time() - 60,
        state="running",
        config=CONFIG,
        listeners=LISTENERS,
        servers=SERVERS,
        segment=segment,
        workers=(WorkerView(0, 101, "running", 0, 1_700_000_000), WorkerView(2, 0, "down", 5, 1_700_000_001)),
    )


def verdict(segment: Segment, row: int, state: str, reason: str = "", since_ms: int = 0) -> None:
    segment.verdicts[row].state = STATES.index(state)
    segment.verdicts[row].reason = REASONS.index(reason)
    segment.verdicts[row].since_ms = since_ms


def group(view: View, name: str = "app") -> dict[str, Any]:
    return next(one for one in status(view)["server_groups"] if one["name"] == name)


def test_a_new_balancer(view: View) -> None:
    answer = status(view)
    assert json.loads(json.dumps(answer)) == answer
    assert protocol.encode(protocol.success(answer))
    assert 60 <= answer["uptime_s"] < 65
    assert {key: answer[key] for key in ("node", "version", "pid", "generation", "state", "connections")} == {
        "node": "nlb-1",
        "version": "0.1.0",
        "pid": 100,
        "generation": 4,
        "state": "running",
        "connections": 0,
    }
    assert answer["listeners"] == [
        {
            "name": "web",
            "bind": ["127.0.0.1:8443", "[::1]:8443"],
            "protocol": "TCPSSL",
            "server_group": "app",
            "connections": 0,
            "connections_total": 0,
            "received_bytes": 0,
            "sent_bytes": 0,
            "handshakes": {},
            "terminations": {},
        },
        {**answer["listeners"][1], "name": "plain", "bind": ["unix:/run/plain.sock"], "protocol": "TCP"},
    ]
    assert (answer["certificates"], answer["crls"]) == ([], [])


def test_listeners_are_summed_over_all_slots(view: View, segment: Segment) -> None:
    """Also over one that has no worker now: its counters are kept."""
    for slot in range(3):
        row = segment.block(slot).listeners[LISTENERS["web"]]
        row.connections, row.received, row.sent, row.live = 10 + slot, 2**40, 7, slot
        row.terminations[Termination.CLIENT_CLOSE] = 2
        row.handshakes[4][0], row.handshakes[4][1] = 5, 1
    segment.block(1).listeners[LISTENERS["web"]].terminations[Termination.UNKNOWN_CA] = 1
    segment.block(1).listeners[LISTENERS["web"]].handshakes[3][1] = 1
    segment.block(1).listeners[LISTENERS["plain"]].live = 4
    answer = status(view)
    web, plain = answer["listeners"]
    assert (web["connections"], web["connections_total"]) == (3, 33)
    assert (web["received_bytes"], web["sent_bytes"]) == (3 * 2**40, 21)
    assert web["terminations"] == {"client_close": 6, "unknown_ca": 1}
    assert web["handshakes"] == {"TLSv1.2": {"full": 0, "resumed": 1}, "TLSv1.3": {"full": 15, "resumed": 3}}
    assert (plain["connections"], plain["connections_total"]) == (4, 0)
    assert answer["connections"] == 7
    assert [worker["connections"] for worker in answer["workers"]] == [0, 2]


def test_servers(view: View, segment: Segment) -> None:
    verdict(segment, 7, "Available", since_ms=1_700_000_000_000)
    verdict(segment, 8, "Unhealthy", "CONNECT_FAILED", 1_700_000_001_500)
    for slot in (0, 2):
        row = segment.block(slot).servers[8]
        row.connections, row.connect_failed, row.connect_timeout, row.live = 5, 2, 1, 3
    answer = group(view)
    assert {key: answer[key] for key in ("scheduler", "health_check", "usable", "fail_open")} == {
        "scheduler": "rr",
        "health_check": True,
        "usable": 1,
        "fail_open": False,
    }
    one, two, out = answer["servers"]
    assert (one["name"], one["state"], one["reason"], one["since"]) == ("a", "Available", "", "2023-11-14T22:13:20Z")
    assert two == {
        "name": "10.0.0.2:80",
        "address": "10.0.0.2:80",
        "weight": 50,
        "state": "Unhealthy",
        "reason": "CONNECT_FAILED",
        "since": "2023-11-14T22:13:21Z",
        "connections": 6,
        "connections_total": 10,
        "connect_failed": 4,
        "connect_timeout": 2,
    }
    assert (out["weight"], out["state"], out["since"]) == (0, "Initial", None)


@pytest.mark.parametrize(
    ("first", "second", "usable", "fail_open"),
    [
        ("Initial", "Initial", 2, False),
        ("Unavailable", "Unavailable", 2, False),
        ("Available", "Unhealthy", 1, False),
        ("Draining", "Available", 1, False),
        ("Unhealthy", "Unhealthy", 0, True),
    ],
)
def test_fail_open(view: View, segment: Segment, first: str, second: str, usable: int, fail_open: bool) -> None:
    """A server of weight 0 does not count: it gets no new connections however well it is."""
    verdict(segment, 7, first)
    verdict(segment, 8, second)
    verdict(segment, 9, "Available")
    answer = group(view)
    assert (answer["usable"], answer["fail_open"]) == (usable, fail_open)


def test_a_group_without_a_server_that_is_wanted(view: View) -> None:
    tables = CONFIG.model_dump(mode="json", exclude_defaults=True)
    for server in tables["server_groups"]["app"]["servers"]:
        server["weight"] = 0
    answer = group(replace(view, config=Config.model_validate(tables)))
    assert (answer["usable"], answer["fail_open"]) == (0, False)


def test_numbers_of_the_prober_are_not_taken_on_trust(view: View, segment: Segment) -> None:
    segment.verdicts[7].state, segment.verdicts[7].reason = 200, 200
    segment.verdicts[7].since_ms = 2**64 - 1
    segment.verdicts[8].state, segment.verdicts[8].reason = STATES.index("Unhealthy"), 200
    one, two, _ = group(view)["servers"]
    assert (one["state"], one["reason"], one["since"]) == ("unknown (200)", "", "9999-12-31T23:59:59Z")
    assert two["reason"] == "unknown (200)"


def test_workers(view: View, segment: Segment) -> None:
    block = segment.block(0)
    block.heartbeat = time.monotonic_ns() // 1_000_000 - 250
    block.stall_us = 1234
    block.listeners[LISTENERS["web"]].live = 2
    block.listeners[LISTENERS["web"]].connections = 5
    block.listeners[LISTENERS["plain"]].connections = 1
    one, two = status(view)["workers"]
    assert 250 <= one.pop("heartbeat_age_ms") < 2000
    assert one == {
        "slot": 0,
        "pid": 101,
        "state": "running",
        "restarts": 0,
        "since": "2023-11-14T22:13:20Z",
        "connections": 2,
        "connections_total": 6,
        "longest_stall_ms": 1.234,
    }
    assert (two["slot"], two["state"], two["restarts"], two["heartbeat_age_ms"]) == (2, "down", 5, None)


def test_certificates_and_revocation_lists(view: View) -> None:
    now = datetime.datetime.now(datetime.UTC)
    certificates = (
        CertificateView("web", Path("/etc/a.crt"), ("a.example", "b.example"), now + datetime.timedelta(days=21)),
        CertificateView("web", Path("/etc/b.crt"), (), now - datetime.timedelta(days=2)),
    )
    crls = (CrlView("web", "CN=Root", now + datetime.timedelta(hours=12)), CrlView("web", "CN=Other", None))
    answer = status(replace(view, certificates=certificates, crls=crls))
    first, second = answer["certificates"]
    assert first == {
        "listener": "web",
        "path": "/etc/a.crt",
        "names": ["a.example", "b.example"],
        "not_after": f"{certificates[0].not_after:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": 21.0,
    }
    assert second["days_left"] == -2.0
    assert [one["days_left"] for one in answer["crls"]] == [0.5, None]
    assert answer["crls"][1]["next_update"] is None
    over = CrlView("web", "CN=Root", now - datetime.timedelta(seconds=1))
    assert status(replace(view, crls=(over,)))["crls"][0]["days_left"] < 0, "however little"
    json.dumps(answer)


def test_verbs() -> None:
    answer = by_verb({"status": lambda arguments: {"given": arguments}, "stop": lambda _: None})
    assert answer("status", {"a": 1}) == {"given": {"a": 1}}
    assert answer("stop", {}) is None
    with pytest.raises(NlbError, match='this balancer does not know "reload"; it knows status, stop'):
        answer("reload", {})
