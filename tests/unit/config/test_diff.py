"""What a reload changes, told in words: every key that differs and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.config.diff import RESTART, SHOWN, as_started, diff, needs_restart
from nlbcore.config.finding import key_text
from nlbcore.config.model import Config
from nlbcore.config.option import all_options

BASE = Path("/etc/nlb")


def made(document: dict[str, Any]) -> Config:
    return Config.model_validate(document, context={"base": BASE})


def document(**changes: Any) -> dict[str, Any]:
    """A file with one of everything; `listener`, `group`, `auth`, `check`, `node`, `log` change keys of its tables."""
    listener = {
        "bind": ["127.0.0.1:443"],
        "server_group": "app",
        "certificates": [{"certificate": "web.crt", "private_key": "web.key"}],
        "client_auth": {"mode": "required", "ca": ["root.crt"], **changes.get("auth", {})},
        **changes.get("listener", {}),
    }
    group = {
        "servers": changes.get("servers", [{"address": "10.0.0.1:80", "name": "a"}]),
        "health_check": changes.get("check", {}),
        **changes.get("group", {}),
    }
    return {
        "node": {"name": "n1", "control_socket": "/run/a", **changes.get("node", {})},
        "log": changes.get("log", {}),
        "listeners": {"web": listener, **changes.get("listeners", {})},
        "server_groups": {"app": group, **changes.get("groups", {})},
    }


def changed(**changes: Any) -> list[str]:
    return diff(made(document()), made(document(**changes)))


A, B, C = ({"address": f"10.0.0.{number}:80", "name": name} for number, name in enumerate("abc", 1))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"listener": {"idle_timeout": "60s"}}, ["listeners.web.idle_timeout: 900s -> 60s"]),
        ({"listener": {"idle_timeout": "15m"}}, []),
        ({"listener": {"strict_sni": True}}, ["listeners.web.strict_sni: false -> true"]),
        ({"listener": {"alpn_policy": "HTTP2Only"}}, ["listeners.web.alpn_policy: absent -> HTTP2Only"]),
        ({"listener": {"certificates": []}}, []),
        ({"auth": {"crl": "a b.crl"}}, ['listeners.web.client_auth.crl: added "/etc/nlb/a b.crl"']),
        (
            {"auth": {"ca": "new.crt"}},
            ["listeners.web.client_auth.ca: added /etc/nlb/new.crt; removed /etc/nlb/root.crt"],
        ),
        (
            {"listener": {"bind": ["127.0.0.1:443", "127.0.0.1:9000"]}},
            ["listeners.web.bind: added 127.0.0.1:9000"],
        ),
        ({"listener": {"bind": "unix:/run/x"}}, ["listeners.web.bind: added unix:/run/x; removed 127.0.0.1:443"]),
        ({"check": {"interval": "2s"}}, ["server_groups.app.health_check.interval: 5s -> 2s"]),
        ({"group": {"scheduler": "RR"}}, ["server_groups.app.scheduler: wrr -> rr"]),
        ({"servers": [{**A, "weight": 50}]}, ["server_groups.app.servers.a.weight: 100 -> 50"]),
        ({"servers": [A, C]}, ["server_groups.app.servers.c: added (10.0.0.3:80, weight 100)"]),
        (
            {"servers": [{**A, "address": "10.0.0.9:80"}]},
            ["server_groups.app.servers.a.address: 10.0.0.1:80 -> 10.0.0.9:80"],
        ),
        (
            {"servers": [{"address": "10.0.0.1:80"}]},
            [
                'server_groups.app.servers."10.0.0.1:80": added (10.0.0.1:80, weight 100)',
                "server_groups.app.servers.a: removed",
            ],
        ),
        ({"groups": {"new.one": {}}}, ['server_groups."new.one": added']),
        ({"node": {"workers": 2}}, ["node.workers: auto -> 2"]),
        ({"log": {"level": "debug", "access": "off"}}, ["log.level: info -> debug", "log.access: stdout -> off"]),
        ({"node": {"control_socket": "/run/b", "admin": "127.0.0.1:1", "pid_file": "/run/p"}}, []),
    ],
)
def test_one_change(changes: dict[str, Any], lines: list[str]) -> None:
    assert changed(**changes) == lines


def test_in_the_order_of_the_new_file() -> None:
    tcp = {"bind": "127.0.0.1:1", "protocol": "TCP", "server_group": "app"}
    old = made(document(listeners={"old": tcp, "x": tcp}, servers=[A, B]))
    new = made(
        {
            "server_groups": {"app": {"servers": [B, C, A], "connect_timeout": 0.25}},
            "listeners": {"new": tcp, "x": {**tcp, "cps": 5}, "web": document()["listeners"]["web"]},
            "node": document(node={"watch": True})["node"],
        }
    )
    assert diff(old, new) == [
        "node.watch: false -> true",
        "listeners.x.cps: 0 -> 5",
        "listeners.new: added",
        "listeners.old: removed",
        "server_groups.app.connect_timeout: 5s -> 0.25s",
        "server_groups.app.servers.c: added (10.0.0.3:80, weight 100)",
        "server_groups.app.servers: in another order",
    ]


def test_the_order_of_a_list() -> None:
    old, new = (made(document(auth={"ca": ca})) for ca in (["a.crt", "b.crt"], ["b.crt", "a.crt"]))
    assert diff(old, new) == ["listeners.web.client_auth.ca: in another order"]


def test_much_is_counted() -> None:
    def many(first: int, weight: int) -> dict[str, Any]:
        return document(servers=[{"address": f"10.0.0.1:{n}", "weight": weight} for n in range(first, first + 3000)])

    lines = diff(made(many(1000, 1)), made(many(2500, 2)))
    assert len(lines) == 3 * (SHOWN + 1)
    assert [line for line in lines if "more" in line] == [
        f"server_groups.app.servers: {1500 - SHOWN} more {what}" for what in ("changed", "added", "removed")
    ]
    old, new = document(), document(listener={"bind": [f"127.0.0.1:{port}" for port in range(443, 543)]})
    (line,) = diff(made(old), made(new))
    assert line.endswith(f"127.0.0.1:{443 + SHOWN} and {99 - SHOWN} more")


def test_what_needs_a_restart() -> None:
    old = made(document())
    assert needs_restart(old, made(document(node={"name": "n2"}, listener={"cps": 1}))) == []
    new = made(document(node={"control_socket": "/run/b", "admin": "127.0.0.1:9180", "pid_file": "p"}))
    assert needs_restart(old, new) == [
        "node.control_socket: /run/a -> /run/b",
        "node.admin: absent -> 127.0.0.1:9180",
        "node.pid_file: absent -> /etc/nlb/p",
    ]
    assert {key_text(path) for path in RESTART} <= {item.path for item in all_options(Config)}


LISTENERS = st.dictionaries(
    st.sampled_from(["a", "b", "c.d"]),
    st.fixed_dictionaries(
        {"bind": st.just("127.0.0.1:1"), "server_group": st.sampled_from("gh")},
        optional={
            "idle_timeout": st.integers(10, 900),
            "cps": st.integers(0, 9),
            "client_auth": st.fixed_dictionaries({}, optional={"ca": st.lists(st.sampled_from("xyz"), min_size=1)}),
        },
    ),
)
GROUPS = st.dictionaries(
    st.sampled_from("gh"),
    st.fixed_dictionaries(
        {
            "servers": st.lists(
                st.fixed_dictionaries(
                    {"address": st.sampled_from(["10.0.0.1:1", "unix:/s"]), "name": st.sampled_from("pqr")},
                    optional={"weight": st.integers(0, 3)},
                ),
                unique_by=lambda server: server["name"],
            )
        },
        optional={"health_check": st.fixed_dictionaries({"enabled": st.booleans()})},
    ),
)
CONFIGS = st.builds(
    lambda listeners, groups: made({"listeners": listeners, "server_groups": groups}), LISTENERS, GROUPS
)


@given(CONFIGS, CONFIGS)
def test_nothing_is_told_exactly_if_nothing_differs(old: Config, new: Config) -> None:
    assert diff(old, old) == []
    assert (diff(old, new) == []) == (old == new)
    assert len(set(diff(old, new))) == len(diff(old, new))


def test_as_started_keeps_what_only_a_restart_changes() -> None:
    """So that the next reload says it again."""
    old = made(document())
    new = made(document(node={"name": "b", "control_socket": "/run/b", "pid_file": "/run/p"}))
    kept = as_started(old, new)
    assert (kept.node.name, kept.node.control_socket, kept.node.pid_file) == ("b", Path("/run/a"), None)
    assert len(needs_restart(kept, new)) == 2
    assert needs_restart(old, kept) == []
