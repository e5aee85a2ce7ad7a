"""What `status` answers for hand-made facts: sums over all slots, verdicts and orders in words, days left, fail-open."""

from __future__ import annotations

import ctypes
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.control import protocol
from nlbcore.control.handlers import SILENT, by_verb, status
from nlbcore.errors import NlbError
from nlbcore.segment import HEARTS, ORDERS, REASONS, STATES, Segment
from nlbcore.termination import Termination

if TYPE_CHECKING:
    from collections.abc import Iterator

    Facts = dict[str, Any]

LISTENERS = {"web": 3, "plain": 0}
DAY = 86400


def server(name: str, row: int, address: str, weight: int = 100) -> dict[str, Any]:
    return {"name": name, "row": row, "address": address, "configured_weight": weight}


@pytest.fixture
def facts() -> dict[str, Any]:
    """What the supervisor publishes; row 5 is of a listener that is being drained."""
    listener = {"protocol": "TCPSSL", "client_auth": "required", "max_connections": 7}
    group = {"scheduler": "rr", "health_check": True}
    return {
        "node": "nlb-1",
        "version": "0.1.0",
        "pid": 100,
        "started": time.time() - 60,
        "state": "running",
        "generation": 4,
        "generations": [3, 4],
        "admin": None,
        "control_socket": "/run/nlb/nlb.sock",
        "names": {
            "listeners": {"0": "plain", "3": "web", "5": "gone"},
            "groups": {"0": "app", "1": "other"},
            "servers": {"7": "a", "8": "10.0.0.2:80", "9": "out", "0": "a"},
        },
        "listeners": [
            {
                **listener,
                "name": "web",
                "row": LISTENERS["web"],
                "bind": ["127.0.0.1:8443", "[::1]:8443"],
                "server_group": "app",
            },
            {
                **listener,
                "name": "plain",
                "row": LISTENERS["plain"],
                "bind": ["unix:/run/plain.sock"],
                "protocol": "TCP",
                "server_group": "other",
                "client_auth": "off",
            },
        ],
        "server_groups": [
            {
                **group,
                "name": "app",
                "row": 0,
                "servers": [
                    server("a", 7, "10.0.0.1:80"),
                    server("10.0.0.2:80", 8, "10.0.0.2:80", 50),
                    server("out", 9, "10.0.0.3:80", 0),
                ],
            },
            {**group, "name": "other", "row": 1, "health_check": False, "servers": [server("a", 0, "10.0.0.4:80")]},
        ],
        "certificates": [],
        "crls": [],
        "workers": [
            {"slot": 0, "pid": 101, "state": "running", "restarts": 0, "since": 1_700_000_000},
            {"slot": 2, "pid": 0, "state": "down", "restarts": 5, "since": 1_700_000_001},
        ],
        "attendants": [{"name": name, "pid": 99, "state": "running", "restarts": 1} for name in HEARTS],
        "reload": None,
        "reloads": {"successful": 2, "failed": 1},
    }


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
    shared.use(shared.slots)
    return shared


def verdict(segment: Segment, row: int, state: str, reason: str = "", since_ms: int = 0) -> None:
    segment.verdicts[row].state = STATES.index(state)
    segment.verdicts[row].reason = REASONS.index(reason)
    segment.verdicts[row].since_ms = since_ms


def group(facts: Facts, segment: Segment, name: str = "app") -> dict[str, Any]:
    return next(one for one in status(facts, segment)["server_groups"] if one["name"] == name)


def test_a_new_balancer(facts: Facts, segment: Segment) -> None:
    answer = status(facts, segment)
    assert json.loads(json.dumps(answer)) == answer
    assert protocol.encode(protocol.success(answer))
    assert 60 <= answer["uptime_s"] < 65
    same = ("node", "version", "pid", "generation", "generations", "state", "admin", "reload", "reloads")
    assert {key: answer[key] for key in same} == {key: facts[key] for key in same}
    assert answer["connections"] == 0
    assert answer["listeners"] == [
        {
            "name": "web",
            "bind": ["127.0.0.1:8443", "[::1]:8443"],
            "protocol": "TCPSSL",
            "server_group": "app",
            "client_auth": "required",
            "max_connections": 7,
            "connections": 0,
            "connections_total": 0,
            "received_bytes": 0,
            "sent_bytes": 0,
            "handshakes": {},
            "terminations": {},
            "expiring": {"1d": 0, "7d": 0, "14d": 0, "30d": 0},
        },
        {
            **{key: value for key, value in answer["listeners"][0].items() if key != "expiring"},
            "name": "plain",
            "bind": ["unix:/run/plain.sock"],
            "protocol": "TCP",
            "server_group": "other",
            "client_auth": "off",
        },
    ]
    assert (answer["certificates"], answer["crls"]) == ([], [])


def test_listeners_are_summed_over_all_slots(facts: Facts, segment: Segment) -> None:
    """Also over one that has no worker now: its counters are kept."""
    for slot in range(3):
        row = segment.block(slot).listeners[LISTENERS["web"]]
        row.connections, row.received, row.sent, row.live = 10 + slot, 2**40, 7, slot
        row.terminations[Termination.CLIENT_CLOSE] = 2
        row.handshakes[4][0], row.handshakes[4][1] = 5, 1
    segment.block(1).listeners[LISTENERS["web"]].terminations[Termination.UNKNOWN_CA] = 1
    segment.block(1).listeners[LISTENERS["web"]].handshakes[3][1] = 1
    segment.block(1).listeners[LISTENERS["plain"]].live = 4
    answer = status(facts, segment)
    web, plain = answer["listeners"]
    assert (web["connections"], web["connections_total"]) == (3, 33)
    assert (web["received_bytes"], web["sent_bytes"]) == (3 * 2**40, 21)
    assert web["terminations"] == {"client_close": 6, "unknown_ca": 1}
    assert web["handshakes"] == {"TLSv1.2": {"full": 0, "resumed": 1}, "TLSv1.3": {"full": 15, "resumed": 3}}
    assert (plain["connections"], plain["connections_total"]) == (4, 0)
    assert answer["connections"] == 7
    assert [worker["connections"] for worker in answer["workers"]] == [0, 2], "of their slots"


def test_client_certificates_are_summed_too(facts: dict[str, Any], segment: Segment) -> None:
    """Which end soon; and what `report` has found, where it is the mode."""
    for slot in range(3):
        row = segment.block(slot).listeners[LISTENERS["web"]]
        row.expiring[:] = (0, 1, 1, 2)
        row.verdicts[0], row.verdicts[Termination.UNKNOWN_CA] = 5, slot
    web, plain = status(facts, segment)["listeners"]
    assert web["expiring"] == {"1d": 0, "7d": 3, "14d": 3, "30d": 6}
    assert "expiring" not in plain
    assert "verdicts" not in web
    facts["listeners"][0]["client_auth"] = "report"
    (web, _) = status(facts, segment)["listeners"]
    assert web["verdicts"] == {"accepted": 15, "unknown_ca": 3}


def test_servers(facts: Facts, segment: Segment) -> None:
    verdict(segment, 7, "Available", since_ms=1_700_000_000_000)
    verdict(segment, 8, "Unhealthy", "CONNECT_FAILED", 1_700_000_001_500)
    for slot in (0, 2):
        row = segment.block(slot).servers[8]
        row.connections, row.connect_failed, row.connect_timeout, row.live = 5, 2, 1, 3
    answer = group(facts, segment)
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
        "configured_weight": 50,
        "admin": "ready",
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
        ("Unhealthy", "Unhealthy", 0, True),
    ],
)
def test_fail_open(facts: Facts, segment: Segment, first: str, second: str, usable: int, fail_open: bool) -> None:
    """A server of weight 0 does not count: it gets no new connections however well it is."""
    verdict(segment, 7, first)
    verdict(segment, 8, second)
    verdict(segment, 9, "Available")
    answer = group(facts, segment)
    assert (answer["usable"], answer["fail_open"]) == (usable, fail_open)


def test_a_group_without_a_server_that_is_wanted(facts: Facts, segment: Segment) -> None:
    for one in facts["server_groups"][0]["servers"]:
        one["configured_weight"] = 0
    answer = group(facts, segment)
    assert (answer["usable"], answer["fail_open"]) == (0, False)


def order(segment: Segment, row: int, state: str, weight: int | None = None) -> None:
    segment.shared.orders[row].state = ORDERS.index(state)
    segment.shared.orders[row].weight_and_one = 0 if weight is None else weight + 1


def test_orders_of_the_operator(facts: Facts, segment: Segment) -> None:
    """What is taken out is Draining, whatever the checks say, and its failure is no reason any more."""
    verdict(segment, 7, "Unhealthy", "CONNECT_FAILED")
    order(segment, 7, "maint")
    order(segment, 8, "drain", 0)
    order(segment, 9, "ready", 100)
    answer = group(facts, segment)
    keys = ("admin", "state", "reason", "weight", "configured_weight")
    assert [tuple(one[key] for key in keys) for one in answer["servers"]] == [
        ("maint", "Draining", "", 100, 100),
        ("drain", "Draining", "", 0, 50),
        ("ready", "Initial", "", 100, 0),
    ]
    assert (answer["usable"], answer["fail_open"]) == (1, False)
    order(segment, 9, "drain", 100)
    answer = group(facts, segment)
    assert (answer["usable"], answer["fail_open"]) == (0, False), "nobody is wanted: that is no failure"
    order(segment, 7, "ready")
    answer = group(facts, segment)
    assert (answer["usable"], answer["fail_open"]) == (0, True)
    assert answer["servers"][0]["reason"] == "CONNECT_FAILED"


@pytest.mark.parametrize(
    ("first", "second", "usable", "fail_open"),
    [
        ("Available", "waits", 1, False),
        ("Unhealthy", "waits", 0, True),
        ("waits", "waits", 0, False),  # all are new: that is no failure
    ],
)
def test_one_that_waits_is_not_usable(
    facts: Facts, segment: Segment, first: str, second: str, usable: int, fail_open: bool
) -> None:
    """As the scheduler has it: a server that a reload has added is not, until it has been checked."""
    for row, state in ((7, first), (8, second)):
        verdict(segment, row, "Initial" if state == "waits" else state)
        segment.verdicts[row].waits = state == "waits"
    answer = group(facts, segment)
    assert (answer["usable"], answer["fail_open"]) == (usable, fail_open)


def test_only_slots_that_were_used_are_looked_at(facts: Facts) -> None:
    """Reading an untouched block allocates its memory."""
    segment = Segment.create()
    try:
        segment.use(1)
        facts["workers"] = facts["workers"][:1]
        before = os.fstat(segment.fd).st_blocks
        status(facts, segment)
        assert (os.fstat(segment.fd).st_blocks - before) * 512 < 1 << 20
    finally:
        os.close(segment.fd)


def test_numbers_of_the_prober_are_not_taken_on_trust(facts: Facts, segment: Segment) -> None:
    segment.verdicts[7].state, segment.verdicts[7].reason = 200, 200
    segment.verdicts[7].since_ms = 2**64 - 1
    segment.verdicts[8].state, segment.verdicts[8].reason = STATES.index("Unhealthy"), 200
    one, two, _ = group(facts, segment)["servers"]
    assert (one["state"], one["reason"], one["since"]) == ("unknown (200)", "", "9999-12-31T23:59:59Z")
    assert two["reason"] == "unknown (200)"


def test_workers(facts: Facts, segment: Segment) -> None:
    """Their connections are also those of a listener that a reload has taken out."""
    block = segment.block(0)
    block.heartbeat = time.monotonic_ns() // 1_000_000 - 250
    block.stall_us = 1234
    block.listeners[LISTENERS["web"]].live = 2
    block.listeners[LISTENERS["web"]].connections = 5
    block.listeners[LISTENERS["plain"]].connections = 1
    block.listeners[5].live = 4
    one, two = status(facts, segment)["workers"]
    assert 250 <= one.pop("heartbeat_age_ms") < 2000
    assert one == {
        "slot": 0,
        "pid": 101,
        "state": "running",
        "restarts": 0,
        "since": "2023-11-14T22:13:20Z",
        "connections": 6,
        "connections_total": 6,
        "longest_stall_ms": 1.234,
    }
    assert (two["slot"], two["state"], two["restarts"], two["heartbeat_age_ms"]) == (2, "down", 5, None)


def test_attendants(facts: Facts, segment: Segment) -> None:
    """One whose heart does not beat is silent; one that is not running is what it is."""
    now = time.monotonic_ns() // 1_000_000
    segment.shared.hearts[:] = [now, now - SILENT - 500, now - SILENT + 2000, now - SILENT - 500]
    facts["attendants"][3]["state"] = "down"
    found = {one["name"]: one["state"] for one in status(facts, segment)["attendants"]}
    assert found == {"log_writer": "running", "prober": "silent", "admin": "running", "watcher": "down"}
    assert status(facts, segment)["attendants"][0] == {
        "name": "log_writer",
        "pid": 99,
        "state": "running",
        "restarts": 1,
    }


def test_the_last_reload(facts: Facts, segment: Segment) -> None:
    facts["reload"] = {
        "time": 1_700_000_000.9,
        "successful": False,
        "generation": 4,
        "trigger": "signal",
        "changes": [],
        "reason": "no",
    }
    assert status(facts, segment)["reload"] == {**facts["reload"], "time": "2023-11-14T22:13:20Z"}
    assert facts["reload"]["time"] == 1_700_000_000.9, "the facts are everybody's"


def test_certificates_and_revocation_lists(facts: Facts, segment: Segment) -> None:
    now = 10 * DAY + int(time.time())
    facts["certificates"] = [
        {"listener": "web", "path": "/etc/a.crt", "names": ["a.example", "b.example"], "not_after": now + 11 * DAY},
        {"listener": "web", "path": "/etc/b.crt", "names": [], "not_after": now - 12 * DAY},
    ]
    facts["crls"] = [
        {"listener": "web", "issuer": "CN=Root", "next_update": now - 9.5 * DAY},
        {"listener": "web", "issuer": "CN=Other", "next_update": None},
        {"listener": "web", "issuer": "CN=Over", "next_update": time.time() - 1},
    ]
    answer = status(facts, segment)
    assert answer["certificates"][0] == {
        **facts["certificates"][0],
        "not_after": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 11 * DAY)),
        "days_left": 21.0,
    }
    assert answer["certificates"][1]["days_left"] == -2.0
    assert [one["days_left"] for one in answer["crls"]] == [0.5, None, -0.01], "below zero, however little"
    assert answer["crls"][1]["next_update"] is None
    json.dumps(answer)


def test_verbs() -> None:
    answer = by_verb({"status": lambda arguments: {"given": arguments}, "stop": lambda _: None})
    assert answer("status", {"a": 1}) == {"given": {"a": 1}}
    assert answer("stop", {}) is None
    with pytest.raises(NlbError, match='this balancer does not know "reload"; it knows status, stop'):
        answer("reload", {})
