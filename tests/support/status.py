"""Answers to `status` as a balancer gives them, for those who show them."""

from __future__ import annotations

import copy
from typing import Any

Status = dict[str, Any]

_LISTENER: Status = {
    "name": "web",
    "bind": ["0.0.0.0:443", "[::]:443"],
    "protocol": "TCPSSL",
    "server_group": "app",
    "client_auth": "required",
    "max_connections": 20000,
    "connections": 1234,
    "connections_total": 50_000,
    "received_bytes": 1_000_000,
    "sent_bytes": 9_000_000,
    "handshakes": {"TLSv1.2": {"full": 10, "resumed": 0}, "TLSv1.3": {"full": 2000, "resumed": 500}},
    "terminations": {"client_close": 40_000, "unknown_ca": 30, "no_certificate": 20},
}
_SERVER: Status = {
    "name": "a",
    "address": "10.0.0.1:80",
    "weight": 100,
    "configured_weight": 100,
    "admin": "ready",
    "state": "Available",
    "reason": "",
    "since": "2026-01-02T03:04:05Z",
    "connections": 617,
    "connections_total": 20_000,
    "connect_failed": 0,
    "connect_timeout": 0,
}
_WORKER: Status = {
    "slot": 0,
    "pid": 4711,
    "state": "running",
    "restarts": 0,
    "since": "2026-01-02T03:04:05Z",
    "connections": 1200,
    "connections_total": 30_000,
    "heartbeat_age_ms": 40,
    "longest_stall_ms": 1.26,
}
_STATUS: Status = {
    "node": "nlb-1",
    "version": "0.1.0",
    "pid": 4710,
    "generation": 3,
    "generations": [2, 3],
    "state": "running",
    "admin": None,
    "started": "2026-01-01T00:00:00Z",
    "uptime_s": 183_999.0,
    "connections": 1241,
    "reload": {
        "time": "2026-01-02T03:04:05Z",
        "successful": True,
        "generation": 3,
        "trigger": "command",
        "changes": ["listener web"],
        "reason": "",
    },
    "reloads": {"successful": 2, "failed": 0},
    "listeners": [
        _LISTENER,
        {
            **_LISTENER,
            "name": "plain",
            "bind": ["127.0.0.1:8080"],
            "protocol": "TCP",
            "client_auth": "off",
            "connections": 7,
            "handshakes": {},
            "terminations": {"client_close": 5},
        },
    ],
    "server_groups": [
        {
            "name": "app",
            "scheduler": "wrr",
            "health_check": True,
            "usable": 1,
            "fail_open": False,
            "servers": [
                _SERVER,
                {**_SERVER, "name": "b", "address": "10.0.0.2:80", "state": "Unhealthy", "reason": "CONNECT_FAILED"},
                {
                    **_SERVER,
                    "name": "c",
                    "address": "10.0.0.3:80",
                    "state": "Draining",
                    "admin": "drain",
                    "weight": 20,
                },
            ],
        }
    ],
    "certificates": [
        {
            "listener": "web",
            "path": "/etc/nlb/server.crt",
            "names": ["www.example.com", "example.com"],
            "not_after": "2026-02-01T00:00:00Z",
            "days_left": 29.87,
        },
        {
            "listener": "web",
            "path": "/etc/nlb/old.crt",
            "names": ["old.example.com"],
            "not_after": "2026-01-05T00:00:00Z",
            "days_left": 2.5,
        },
    ],
    "crls": [
        {"listener": "web", "issuer": "CN=Root", "next_update": None, "days_left": None},
        {"listener": "web", "issuer": "CN=Issuing", "next_update": "2026-01-02T00:00:00Z", "days_left": -0.5},
    ],
    "workers": [_WORKER, {**_WORKER, "slot": 1, "pid": 0, "state": "down", "connections": 41, "restarts": 2}],
    "attendants": [{"name": "prober", "pid": 4713, "state": "silent", "restarts": 1}],
}


def status() -> Status:
    """A busy balancer with some trouble; yours to change."""
    return copy.deepcopy(_STATUS)


def later(answer: Status, *, new: int = 10, refused: int = 0) -> Status:
    """The answer after more connections to the first listener, through the first server and worker; `refused` of them
    had no certificate.
    """
    answer = copy.deepcopy(answer)
    web, server = answer["listeners"][0], answer["server_groups"][0]["servers"][0]
    for one in (web, answer["workers"][0]):
        one["connections_total"] += new
    web["handshakes"]["TLSv1.3"]["full"] += new - refused
    web["terminations"]["no_certificate"] += refused
    web["received_bytes"] += 1000 * new
    web["sent_bytes"] += 5000 * new
    server["connections_total"] += new - refused
    answer["uptime_s"] += 1
    return answer
