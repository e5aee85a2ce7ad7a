"""The admin process of a running balancer: what it says is what has happened, and it outlives what happens to the others.

Metrics against the traffic that was made, health and readiness while workers hang, while the balancer starts, drains and is
upgraded, the live connections, reloads; and what happens to itself: killed, hung, told of another address.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from nlbcore.observe.metrics import FAMILIES
from tests.process.test_keys_in_memory import found, permitted, shapes
from tests.support.admin import Caller, get, get_json, problems, scrape, wait_scrape
from tests.support.backends import Backend
from tests.support.balancer import Balancer, nlb, plain_listener, server_group, title, tls_listener
from tests.support.lists import revocation_list, write_lists
from tests.support.ports import free_port
from tests.support.reloading import changed, orphanage, refused, stopped, upgrade
from tests.support.tls_client import TLS12, TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, end, spread, successor, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.certs import Pki

__all__ = ["permitted"]

Tables = dict[str, Any]


@pytest.fixture(scope="module")
def plan(pki: Pki, backend: Backend, module_folder: Path) -> Callable[..., Tables]:
    """`plan(workers=2, ...)`: the listeners "web", with a revocation list, and "plain"; the admin process; `[node]` options."""
    crl = write_lists(module_folder, revocation_list(pki.root, pki.root.client("gone")))

    def make(**node: object) -> Tables:
        return {
            "node": {"workers": 2, "admin": f"127.0.0.1:{free_port()}", **node},
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path, client_auth={"crl": str(crl)}),
                "plain": plain_listener(),
            },
            "server_groups": {"app": server_group(backend.entry(name="a"))},
        }

    return make


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], plan: Callable[..., Tables]) -> Balancer:
    """For the tests that leave it as it was, but for its counters: the first finds it fresh."""
    made = balancer_for(plan())
    made.restarts_expected = True
    return made


@pytest.fixture(scope="module")
def admin(balancer: Balancer) -> int:
    """The port of its admin process."""
    return int(balancer.ask("status")["admin"].rpartition(":")[2])


def port(tables: Tables) -> int:
    """Of the admin process."""
    return int(tables["node"]["admin"].rpartition(":")[2])


def administrator(balancer: Balancer) -> psutil.Process:
    (process,) = balancer.titled("nlb: admin")
    return process


# -- metrics ------------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_traffic(balancer: Balancer, admin: int, pki: Pki, context: ssl.SSLContext) -> None:
    """Every family; connections, handshakes, refusals by word, bytes; and when certificate and list end."""
    before = scrape(admin)
    assert before.types == {family.name: "gauge" if family.kind == "info" else family.kind for family in FAMILIES}
    assert not [name for name in before.types if not [one for one, _ in before.samples if one.startswith(name)]]
    modern = get(admin, "/metrics", accept="application/openmetrics-text; version=1.0.0")[2].decode()
    assert len(list(parse_openmetrics(modern))) == len(FAMILIES)

    web = {"listener": "web"}
    with ExitStack() as stack:
        first = stack.enter_context(tls_client(balancer.port(), context))
        first.ping(b"x" * 1000)
        with tls_client(balancer.port(), context, session=first.session) as again:
            assert again.resumed
            again.ping(b"y" * 2000)
        with tls_client(balancer.port(), client_context(pki.root.path, TLS12, pki.client)) as old:
            old.ping(b"z" * 30)
        for bad in (None, pki.bad_client("expired"), pki.bad_client("unknown_ca"), pki.bad_client("unknown_ca")):
            with TlsClient(balancer.port(), client_context(pki.root.path, None, bad)) as client:
                refusal(client)
        with socket.create_connection(("127.0.0.1", balancer.port())) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                stranger.recv(100)
        plain = stack.enter_context(contextlib.closing(PlainClient(balancer.port("plain"))))
        plain.ping(b"p" * 500)
        balancer.access.wait_count(7)
        now = wait_scrape(
            admin, lambda one: one.total("nlb_terminations_total") >= 7, "the terminations of seven connections"
        )
        assert now("nlb_listener_connections_total", **web) == 8
        assert now("nlb_listener_connections", **web) == 1
        assert now("nlb_listener_connections", listener="plain") == 1
        ended = {
            dict(labels)["termination"]: value
            for (name, labels), value in now.samples.items()
            if name == "nlb_terminations_total" and value and ("listener", "web") in labels
        }
        assert ended == {"client_close": 2, "no_certificate": 1, "expired": 1, "unknown_ca": 2, "not_tls": 1}
        for version, resumed, count in (("TLSv1.3", "false", 1), ("TLSv1.3", "true", 1), ("TLSv1.2", "false", 1)):
            assert now("nlb_tls_handshakes_total", version=version, resumed=resumed, **web) == count
        assert now("nlb_tls_handshake_duration_seconds_count", **web) == 3
        assert 0 < now("nlb_tls_handshake_duration_seconds_sum", **web) < 3
        assert now("nlb_connection_duration_seconds_count", **web) == 7
        assert now("nlb_server_connections", server_group="app", server="a") == 2
        assert now("nlb_server_connections_total", server_group="app", server="a") == 4
        assert now("nlb_server_group_connect_duration_seconds_count", server_group="app") == 4
        assert now("nlb_client_certificate_expiring", within="30d", **web) == 1
        assert now("nlb_client_certificate_expiring", within="14d", **web) == 0
        for direction in ("received", "sent"):  # also those of connections that live
            assert now(f"nlb_listener_{direction}_bytes_total", **web) == 3030
            assert now(f"nlb_listener_{direction}_bytes_total", listener="plain") == 500
    ends = pki.server.certificate.not_valid_after_utc.timestamp()
    assert now("nlb_certificate_not_after_timestamp_seconds", certificate=str(pki.server.path), **web) == ends
    due = now("nlb_crl_next_update_timestamp_seconds", issuer="CN=Test Root", **web)
    assert due == pytest.approx(time.time() + 7 * 86400, abs=60)
    assert now("nlb_config_last_reload_success_timestamp_seconds") == now("nlb_start_time_seconds")


def test_a_killed_worker_takes_no_count_with_it(balancer: Balancer, admin: int, context: ssl.SSLContext) -> None:
    """Counters are not less, gauges are of those that live."""
    web = {"listener": "web"}
    with ExitStack() as stack:
        held = spread(stack, lambda: tls_client(balancer.port(), context), balancer, 2)
        count = sum(map(len, held.values()))
        before = wait_scrape(
            admin,
            lambda one: (
                (one("nlb_listener_connections", **web), one("nlb_client_certificate_expiring", within="30d", **web))
                == (count, 1)
            ),
            "all that are held, their one certificate once for both workers",
        )
        (victim,) = balancer.titled("nlb: worker 1")
        end(victim, signal.SIGKILL)
        successor(balancer, "nlb: worker 1", victim)
        after = wait_scrape(
            admin,
            lambda one: one("nlb_worker_up", worker="1") == 1 and one("nlb_worker_restarts_total", worker="1") == 1,
            "worker 1 is up again",
        )
        less = {key: value for key, value in before.counters().items() if after.samples.get(key, -1) < value}
        assert not less
        assert after("nlb_listener_connections", **web) == len(held[0])
        assert after("nlb_server_connections", server_group="app", server="a") == len(held[0])
        assert after("nlb_client_certificate_expiring", within="30d", **web) == 1
        code, said = get_json(admin, "/api/v1/status")
        assert (code, said["connections"]) == (200, len(held[0]))
        assert [worker["connections"] for worker in said["workers"]] == [len(held[0]), 0]
    assert problems(admin, "/healthz") == []


def test_reloads(run: Callable[..., Balancer], plan: Callable[..., Tables]) -> None:
    """Good and refused ones, in the metrics and the JSON; a listener that is gone is gone there too."""
    tables = plan()
    balancer, admin = run(tables), port(tables)
    began = scrape(admin)("nlb_start_time_seconds")
    balancer.rewrite(changed(tables, plain=None))
    balancer.reload()
    good = wait_scrape(admin, lambda one: one("nlb_config_generation") == 2, "generation 2")
    loaded = good("nlb_config_last_reload_success_timestamp_seconds")
    assert loaded > began
    assert not [labels for _, labels in good.samples if ("listener", "plain") in labels]
    assert [one["name"] for one in get_json(admin, "/api/v1/status")[1]["listeners"]] == ["web"]
    balancer.rewrite(changed(tables, web={"server_group": "nobody"}))
    told = refused(balancer)
    bad = wait_scrape(admin, lambda one: one("nlb_config_last_reload_successful") == 0, "the refused reload")
    assert bad("nlb_config_generation") == 2
    assert bad("nlb_config_last_reload_success_timestamp_seconds") == loaded
    assert bad("nlb_config_reloads_total", result="successful") == 1
    assert bad("nlb_config_reloads_total", result="failed") == 1
    assert (
        wait_until(
            lambda: one if (one := get_json(admin, "/api/v1/status")[1]["reload"])["reason"] else {}, "the reason"
        )
        == told
    )
    assert problems(admin, "/readyz") == []
    balancer.rewrite(tables)
    balancer.reload()
    again = wait_scrape(admin, lambda one: one("nlb_config_generation") > 2, "another generation")
    assert again("nlb_config_last_reload_successful") == 1
    assert again("nlb_listener_connections_total", listener="plain") == 0


# -- health -------------------------------------------------------------------------------------------------------------


def test_health_while_all_workers_hang(
    run: Callable[..., Balancer], plan: Callable[..., Tables], context: ssl.SSLContext
) -> None:
    """Nobody serves: 503 within moments, and 200 when new ones do; one that hangs is no reason to send clients elsewhere."""
    tables = plan()
    balancer, admin = run(tables), port(tables)
    first, second = balancer.workers()
    with stopped(first):
        wait_until(lambda: problems(admin, "/healthz"), "one worker hangs")
        assert problems(admin, "/readyz") == []
    wait_until(lambda: not problems(admin, "/healthz"), "it goes on")
    with stopped(first), stopped(second):
        told = wait_until(lambda: one if len(one := problems(admin, "/healthz")) == 2 else [], "no worker answers")
        assert told[0].startswith("worker 0 (stuck) has not answered for ")
        assert "no worker is running" in wait_until(lambda: problems(admin, "/readyz"), "nobody serves")
    wait_until(lambda: not problems(admin, "/healthz") and not problems(admin, "/readyz"), "new workers")
    with tls_client(balancer.port(), context) as client:
        client.ping()


def test_ready_for_a_group(balancer: Balancer, admin: int) -> None:
    assert problems(admin, "/readyz?group=app") == []
    done = nlb("server", "maint", "app/a", "--socket", balancer.control_socket)
    assert done.returncode == 0, done.stderr
    assert problems(admin, "/readyz?group=app") == ["server group app has no usable server"]
    assert problems(admin, "/readyz") == []
    balancer.ask("server", server_group="app", server="a", do="ready")
    assert problems(admin, "/readyz?group=app") == []
    assert get_json(admin, "/readyz?group=none") == (404, {"error": 'no server group "none"'})


def command(process: psutil.Process) -> str:
    """Its command line; none when it has just ended (the checker does)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def test_not_ready_before_it_serves(tmp_path: Path, plan: Callable[..., Tables]) -> None:
    """The supervisor is stopped as soon as it has an admin process: that one says so."""
    tables = plan(workers=8)
    balancer, admin = Balancer(tmp_path, tables), port(tables)
    try:
        balancer.launch()
        wait_until(lambda: any("nlbcore.process.admin" in command(one) for one in family(balancer)), "it")
        supervisor = psutil.Process(balancer.pid)
        with stopped(supervisor):
            told = wait_until(lambda: answered(admin), "an answer")
            assert "the balancer is starting" in told
        wait_until(lambda: not problems(admin, "/readyz"), "it is ready")
        with contextlib.closing(PlainClient(balancer.port("plain"))) as client:
            client.ping()
        balancer.stop()
    finally:
        balancer.kill()


def family(balancer: Balancer) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return balancer.processes()
    return []


def answered(admin: int) -> list[str]:
    with contextlib.suppress(ConnectionRefusedError):
        return problems(admin, "/readyz")
    return []


def test_not_ready_while_it_stops(run: Callable[..., Balancer], plan: Callable[..., Tables]) -> None:
    """In the shutdown delay and while connections finish; new ones are served in the delay, and it lives to the end."""
    tables = plan(workers=1, shutdown_delay="1s", drain_timeout="30s")
    balancer, admin = run(tables), port(tables)
    with contextlib.closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()
        balancer.signal(signal.SIGTERM)
        told = wait_until(lambda: problems(admin, "/readyz"), "not ready")
        assert told == ["the balancer is draining"]
        with contextlib.closing(PlainClient(balancer.port("plain"))) as late:
            late.ping()
        assert problems(admin, "/healthz") == []
        wait_until(lambda: not listens(balancer.port("plain")), "no new connections")
        client.ping()
        assert problems(admin, "/readyz") == ["the balancer is draining"]
        assert get_json(admin, "/api/v1/status")[1]["state"] == "draining"
        assert scrape(admin)("nlb_listener_connections", listener="plain") == 1
    balancer.wait_exit(0)
    assert not listens(admin)


def listens(number: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", number)) == 0


@pytest.fixture
def orphans() -> Iterator[None]:
    """The successor is the child of a process that ends."""
    with orphanage():
        yield


def test_an_upgrade(orphans: None, run: Callable[..., Balancer], plan: Callable[..., Tables]) -> None:
    """USR2: two balancers for a moment, which is made long, and who asks sees one, ready all the time, and then the other."""
    tables = plan(workers=4)
    balancer, admin, first = (one := run(tables)), port(tables), one.pid
    with Caller(admin, "/readyz") as monitor, Caller(admin, "/api/v1/status") as reader:
        monitor.wait_answers()
        balancer.signal(signal.SIGUSR2)
        new = psutil.Process(int(balancer.wait_event("upgrade_begun")["pid"]))
        wait_until(lambda: any(title(one).startswith("nlb: worker") for one in new.children()), "its workers begin")
        with stopped(new):
            time.sleep(1.0)  # an admin process of its own would answer by now
        old = upgrade(balancer, ask=False)
        monitor.wait_answers(20)
        reader.wait_answers(20)
    assert (monitor.refused, monitor.broken, set(monitor.codes)) == (0, 0, {200}), set(monitor.bodies)
    assert (reader.refused, reader.broken) == (0, 0)
    seen = [json.loads(body)["pid"] for body in reader.bodies]
    assert [pid for pid, _ in itertools.groupby(seen)] == [first, new.pid], "first one, then the other"
    assert old.wait(15) == 0


# -- connections, and who may read what ---------------------------------------------------------------------------------


def test_live_connections(balancer: Balancer, admin: int, pki: Pki, context: ssl.SSLContext) -> None:
    """A client with its identity, as in its line in the log."""
    wait_until(lambda: not get_json(admin, "/api/v1/connections")[1]["connections"], "those of other tests have ended")
    assert get_json(admin, "/api/v1/connections") == (200, {"connections": [], "truncated": False, "unreadable": []})
    with tls_client(balancer.port(), context) as client, contextlib.closing(PlainClient(balancer.port("plain"))) as p:
        client.ping()
        p.ping()
        code, said = get_json(admin, "/api/v1/connections")
        assert code == 200
        live = {one["listener"]: one for one in said["connections"]}
        assert set(live) == {"web", "plain"}
        assert (live["web"]["client_port"], live["web"]["state"]) == (client.port, "relay")
        assert (live["plain"]["client_port"], live["plain"]["server"]) == (p.port, "a")
        assert get_json(admin, "/api/v1/connections?limit=1")[1]["truncated"]
    line = balancer.access.wait_for(listener="web", client_port=live["web"]["client_port"])
    same = [key for key in line if key.startswith(("client_", "tls_", "server", "domain")) or key == "connection"]
    assert len(same) > 15
    assert {key: live["web"].get(key) for key in same} == {key: line[key] for key in same}
    assert line["client_cert_sha256"] == pki.client.sha256


@pytest.mark.usefixtures("permitted")
def test_no_key_in_its_memory(balancer: Balancer, admin: int, pki: Pki, context: ssl.SSLContext) -> None:
    """Neither as it was started, nor when its successor was, when the supervisor had the key for long; the port never refuses."""
    with tls_client(balancer.port(), context) as client:
        client.ping()
        get(admin, "/api/v1/connections")
    first = administrator(balancer)
    assert found(balancer.workers()[0], shapes(pki.server))
    assert not found(first, shapes(pki.server))
    with Caller(admin, "/api/v1/connections") as caller:
        caller.wait_answers()
        end(first, signal.SIGKILL)
        second = successor(balancer, "nlb: admin", first)
        caller.wait_answers(20)
        assert caller.refused == 0
        assert caller.broken <= 2, "only who was being answered by the one that died"
        assert set(caller.codes) == {200}
    assert not found(second, shapes(pki.server))
    balancer.wait_event("admin_died")
    now = scrape(admin)
    assert now("nlb_attendant_restarts_total", attendant="admin") == 1
    assert now("nlb_attendant_up", attendant="admin") == 1


def test_another_address_needs_a_restart(run: Callable[..., Balancer], plan: Callable[..., Tables]) -> None:
    """It is said, at every reload; status, successors of the process and the port stay with the old one."""
    tables = plan(workers=1)
    balancer, admin = run(tables), port(tables)
    old = tables["node"]["admin"]
    for new in (f"127.0.0.1:{free_port()}", None):
        node = {key: value for key, value in {**tables["node"], "admin": new}.items() if value is not None}
        balancer.rewrite({**tables, "node": node})
        answer = balancer.reload()
        assert answer["needs_restart"] == [f"node.admin: {old} -> {new or 'absent'}"]
        assert balancer.reload()["needs_restart"] == answer["needs_restart"], "said once, and never again"
        assert balancer.ask("status")["admin"] == old
    first = administrator(balancer)
    end(first, signal.SIGKILL)
    successor(balancer, "nlb: admin", first)
    assert get_json(admin, "/api/v1/status")[1]["admin"] == old


def test_hung(balancer: Balancer, admin: int) -> None:
    """Stopped, it is silent in the status; traffic, and the others, do not notice."""

    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in balancer.ask("status")["attendants"]}

    with stopped(administrator(balancer)):
        wait_until(lambda: states()["admin"] == "silent", lambda: f"silence: {states()}")
        assert states() == {"log_writer": "running", "prober": "running", "admin": "silent"}
        assert nlb("status", "--check", "--socket", balancer.control_socket).returncode == 1
        with contextlib.closing(PlainClient(balancer.port("plain"))) as client:
            client.ping()
    wait_until(lambda: states()["admin"] == "running", lambda: f"life: {states()}")
    assert json.loads(get(admin, "/healthz")[2])["healthy"]
