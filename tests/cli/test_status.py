"""`nlb status` of a running balancer: what was done shows, for people, for scripts and for monitors."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_view import RELOAD, STATUS, WORKER
from tests.support.backends import Backend
from tests.support.balancer import NLB, Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.reloading import stopped
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    server: Backend = use(Backend())
    return server


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """Two workers, a TLS and a plain listener, a group with one server that answers and one that does not."""
    nobody = {"name": "nobody", "address": f"127.0.0.1:{free_port()}", "weight": 0}
    return balancer_for(
        {
            "node": {"workers": 2},
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path), "plain": plain_listener(group="none")},
            "server_groups": {
                "app": server_group(backend.entry(name="one"), nobody),
                "none": server_group(nobody | {"weight": 100}, health_check={"interval": "1s"}),
            },
        }
    )


def status(balancer: Balancer) -> dict[str, Any]:
    done = nlb("status", "--json", "-c", balancer.path)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in entries if one["name"] == name)


def server(balancer: Balancer, group: str, name: str) -> dict[str, Any]:
    return named(named(status(balancer)["server_groups"], group)["servers"], name)


def test_the_balancer_itself(balancer: Balancer, pki: Pki) -> None:
    answer = status(balancer)
    assert (answer["node"], answer["pid"], answer["generation"]) == ("under-test", balancer.pid, 1)
    assert answer["state"] == "running"
    assert [(one["slot"], one["state"], one["restarts"]) for one in answer["workers"]] == [
        (0, "running", 0),
        (1, "running", 0),
    ]
    assert {one["pid"] for one in answer["workers"]} == {worker.pid for worker in balancer.workers()}
    assert all(one["heartbeat_age_ms"] < 3000 for one in answer["workers"])
    (certificate,) = answer["certificates"]
    assert (certificate["listener"], certificate["path"]) == ("web", pki.server.entry()["certificate"])
    assert "www.example.com" in certificate["names"]
    assert certificate["days_left"] > 0


def test_a_connection_shows_while_it_lives_and_after(balancer: Balancer, pki: Pki) -> None:
    before = named(status(balancer)["listeners"], "web")
    with TlsClient(balancer.port("web"), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping(b"12345")
        answer = status(balancer)
        web = named(answer["listeners"], "web")
        assert (web["connections"], web["connections_total"]) == (1, before["connections_total"] + 1)
        assert answer["connections"] == 1
        assert sum(worker["connections"] for worker in answer["workers"]) == 1
        assert server(balancer, "app", "one")["connections"] == 1
    wait_until(lambda: status(balancer)["connections"] == 0, "the end of the connection")
    web = named(status(balancer)["listeners"], "web")
    assert web["received_bytes"] == before["received_bytes"] + 5
    assert web["sent_bytes"] == before["sent_bytes"] + 5
    assert web["handshakes"]["TLSv1.3"]["full"] == 1
    assert web["terminations"]["client_close"] == 1


def test_a_refusal_is_counted_by_its_word(balancer: Balancer, pki: Pki) -> None:
    refusal(TlsClient(balancer.port("web"), client_context(pki.root.path, None)))
    wait_until(
        lambda: named(status(balancer)["listeners"], "web")["terminations"].get("no_certificate") == 1, "the count"
    )


def test_a_server_that_does_not_answer(balancer: Balancer) -> None:
    wait_until(lambda: server(balancer, "none", "nobody")["state"] == "Unhealthy", "the verdict of the health check")
    answer = status(balancer)
    group = named(answer["server_groups"], "none")
    assert (group["usable"], group["fail_open"]) == (0, True)
    assert (group["servers"][0]["reason"], bool(group["servers"][0]["since"])) == ("CONNECT_FAILED", True)
    done = nlb("status", "--check", "-c", balancer.path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "NOT OK: server group none has no usable server: new connections go to all of them\n"


def test_for_people(balancer: Balancer) -> None:
    done = nlb("status", "--socket", balancer.control_socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("under-test  running  generation 1, 0 connections\n")
    for word in ("Listeners", "web", "Servers of app (wrr)", "one", "Certificates", "www.example.com", "Workers"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal(balancer: Balancer, environment: dict[str, str], coloured: bool) -> None:
    master, slave = os.openpty()
    try:
        subprocess.run(
            [NLB, "status", "--socket", balancer.control_socket],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", **environment},
            check=True,
            timeout=20,
        )
        text = os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "running" in text
    assert ("\x1b[32m" in text) == coloured


def test_reports_of_trouble_and_their_end(tmp_path: Path, backend: Backend, pki: Pki) -> None:
    """All is well; a certificate that is too old for whoever asks; a worker that has died and comes back."""
    configuration = {
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend, health_check={"enabled": False})},
    }
    with Balancer(tmp_path, configuration) as balancer:
        check = ("status", "--check", "-c", balancer.path)

        def asked(code: int) -> str:
            """What it says, where it ends with that code."""
            done = nlb(*check)
            return done.stdout if done.returncode == code else ""

        done = nlb(*check)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("OK: generation 1, 1 listener, 1 of 1 server usable, 0 connections, 1 worker, ")
        assert done.stdout.count("\n") == 1
        done = nlb(*check, "--days", "100000")
        assert done.returncode == 1
        assert done.stdout.startswith(
            f"NOT OK: certificate {pki.server.entry()['certificate']} of listener web expires in "
        )
        done = nlb(*check, "--days", "100000", "--json")
        assert done.returncode == 1
        answer = json.loads(done.stdout)
        assert (answer["ok"], len(answer["problems"])) == (False, 1)
        assert json.loads(nlb(*check, "--json").stdout) == {"ok": True, "problems": []}
        with stopped(balancer.worker):
            wait_until(lambda: "worker 0" in asked(1), "a worker that does not move to be noticed")
        wait_until(lambda: asked(0), "all is well again")


def test_what_a_monitor_is_told_of_reloads_and_helpers(tmp_path: Path) -> None:
    refused = {**RELOAD, "successful": False, "reason": "1 error in nlb.toml"}
    down = {"name": "log_writer", "pid": 0, "state": "down", "restarts": 4}
    answer = {**STATUS, "workers": [WORKER], "reload": refused, "attendants": [down]}
    with Loop(tmp_path / "nlb.sock", lambda *_: answer) as loop:
        done = nlb("status", "--check", "--socket", loop.server.path)
        told = "the last reload was refused, generation 3 stays in force: 1 error in nlb.toml; the log writer is down"
        assert (done.returncode, done.stdout) == (1, f"NOT OK: {told}\n")
        done = nlb("status", "--socket", loop.server.path)
        assert done.returncode == 0
        assert "reload refused 2026-01-02T03:04:05Z (watch), generation 3 stays in force: 1 error" in done.stdout
        assert "log writer  down" in done.stdout
        answer.update(reload=RELOAD, attendants=[], crls=[])
        assert nlb("status", "--check", "--socket", loop.server.path).returncode == 0


def test_no_balancer(tmp_path: Path) -> None:
    said = "no running balancer at nlb.sock"
    for arguments in ((), ("--json",)):
        done = nlb("status", "--socket", "nlb.sock", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (69, "", f"nlb: {said}\n")
    done = nlb("status", "--socket", "nlb.sock", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (69, f"NOT OK: {said}\n", ""), "a monitor shows this line"
    done = nlb("status", "--socket", "nlb.sock", "--check", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (69, {"ok": False, "problems": [said]})


def test_days_is_a_number() -> None:
    done = nlb("status", "--days", "soon")
    assert (done.returncode, done.stdout) == (2, "")
