"""Settings of all kinds that a reload changes in place: TLS policy, protocol, health checks, logs, and those that need a restart."""

from __future__ import annotations

import json
import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import AccessLog, Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.reloading import changed, descriptors, no_more_than
from tests.support.switched import Switched
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, tls_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.certs import Pki
    from tests.support.reloading import Tables


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend) -> Tables:
    return {
        "node": {"workers": 2},
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path), "plain": plain_listener()},
        "server_groups": {"app": server_group(backend.entry(name="echo"))},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(running: Balancer, base: Tables) -> Iterator[Balancer]:
    """With the base in force, before and after, and no more open than before."""
    before = descriptors(running)
    yield running
    running.rewrite(base)
    running.reload()
    no_more_than(running, before)


def enforce(balancer: Balancer, tables: Tables) -> dict[str, Any]:
    balancer.rewrite(tables)
    return balancer.reload()


def agreed(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> str:
    """The version that a client with this one gets, or the alert."""
    client = TlsClient(balancer.port(), client_context(pki.root.path, version, pki.client))
    with closing(client):
        try:
            return client.handshake().tls.version() or ""
        except ssl.SSLError as error:
            return error.reason or ""


def test_versions(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """Fewer, then more: for new connections of both workers; one that is open goes on with its own."""
    with closing(tls_client(balancer.port(), client_context(pki.root.path, TLS13, pki.client))) as live:
        live.ping()
        enforce(balancer, changed(base, web={"security_policy": "tls_cipher_policy_1_2"}))
        for _ in range(6):
            assert agreed(balancer, pki, TLS13) == "TLSV1_ALERT_PROTOCOL_VERSION"
            assert agreed(balancer, pki, TLS12) == "TLSv1.2"
        live.ping(b"still here" * 1000)
        enforce(balancer, base)
        for _ in range(6):
            assert agreed(balancer, pki, TLS13) == "TLSv1.3"


def test_alpn_and_names(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """Set, and taken away again."""
    context = client_context(pki.root.path, None, pki.client, alpn=["h2", "http/1.1"])

    def protocol() -> str | None:
        with closing(tls_client(balancer.port(), context)) as client:
            return client.tls.selected_alpn_protocol()

    assert protocol() is None
    enforce(balancer, changed(base, web={"alpn_policy": "HTTP1Only", "strict_sni": True}))
    assert {protocol() for _ in range(4)} == {"http/1.1"}
    stranger = TlsClient(balancer.port(), client_context(None, None, pki.client), server_name="other.example.com")
    assert refusal(stranger) == "TLSV1_UNRECOGNIZED_NAME"
    enforce(balancer, base)
    assert {protocol() for _ in range(4)} == {None}
    with TlsClient(balancer.port(), client_context(None, None, pki.client), server_name="other.example.com") as client:
        client.handshake().ping()


def test_protocol(balancer: Balancer, base: Tables, pki: Pki, context: ssl.SSLContext) -> None:
    """A plain listener becomes one with TLS at the same address and under the same name, and plain again. Who is connected
    stays, but not without a certificate where one is required now.
    """
    plain = base["listeners"]["plain"]
    secure = tls_listener(pki.server, bind=plain["bind"])
    mutual = tls_listener(pki.server, ca=pki.root.path, bind=plain["bind"])

    def with_listener(listener: dict[str, object]) -> Tables:
        return {**base, "listeners": {**base["listeners"], "plain": listener}}

    with closing(PlainClient(balancer.port("plain"))) as live:
        live.ping()
        enforce(balancer, with_listener(secure))
        with closing(tls_client(balancer.port("plain"), context)) as client:
            client.ping()
            live.ping(b"still here" * 1000)
            enforce(balancer, base)
            client.ping(b"still here" * 1000)
        with closing(PlainClient(balancer.port("plain"))) as new:
            new.ping()
        assert enforce(balancer, with_listener(mutual))["closed"] == 1
        assert live.read_to_end()[0] == b""
        assert balancer.line(live)["termination"] == "became_refused"


def states(balancer: Balancer) -> dict[str, str]:
    return {one["name"]: one["state"] for one in balancer.ask("status")["server_groups"][0]["servers"]}


def test_health_checks(balancer: Balancer, base: Tables, backend: Backend) -> None:
    """Switched on: a server that is down gets no connections. One that is added and never answers gets none either, from the
    first moment. Switched off: nothing is known of them any more.
    """
    check = {"enabled": True, "interval": "1s", "connect_timeout": "1s"}

    def group(*servers: Any, **keys: object) -> Tables:
        return {**base, "server_groups": {"app": server_group(*servers, **keys)}}

    echo, dead = backend.entry(name="echo"), {"address": f"127.0.0.1:{free_port()}", "name": "dead"}
    enforce(balancer, group(echo, health_check=check))
    wait_until(lambda: states(balancer) == {"echo": "Available"}, lambda: f"{states(balancer)}")
    enforce(balancer, group(echo, dead, health_check=check))
    for _ in range(10):
        with closing(PlainClient(balancer.port("plain"))) as client:
            client.ping()
    wait_until(lambda: states(balancer) == {"echo": "Available", "dead": "Unhealthy"}, lambda: f"{states(balancer)}")
    enforce(balancer, group(echo, dead))
    wait_until(lambda: set(states(balancer).values()) == {"Unavailable"}, lambda: f"{states(balancer)}")


def test_verdict_is_kept(balancer: Balancer, base: Tables, backend: Backend) -> None:
    """A reload of something else leaves what is known of a server: no connection goes to one that is ill."""
    check = {"enabled": True, "interval": "1s", "connect_timeout": "1s"}
    with Switched(greet(b"ill")) as ill:
        servers = (backend.entry(name="echo"), ill.entry(name="ill"))
        tables = {**base, "server_groups": {"app": server_group(*servers, health_check=check)}}
        enforce(balancer, tables)
        ill.down()
        wait_until(lambda: states(balancer)["ill"] == "Unhealthy", lambda: f"{states(balancer)}")
        for cps in (1000, 2000, 3000):
            enforce(balancer, changed(tables, plain={"cps": cps}))
            assert states(balancer)["ill"] == "Unhealthy"
            with closing(PlainClient(balancer.port("plain"))) as client:
                client.ping()


def test_logs(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """Another access log, none, other words in the event log, the first one again: each line is where it belongs."""
    other = AccessLog(tmp_path / "other.log")
    events = tmp_path / "events.json"

    def visit() -> int:
        with closing(PlainClient(balancer.port("plain"))) as client:
            client.ping()
            return client.port

    enforce(balancer, {**base, "log": {"access": str(other.path), "file": str(events), "format": "json"}})
    port = visit()
    wait_until(lambda: other.find(client_port=port), "the line is in the other log")
    assert not balancer.access.find(client_port=port)
    enforce(balancer, {**base, "log": {"access": "off", "file": str(events), "format": "json"}})
    assert [json.loads(line)["event"] for line in events.read_text().splitlines()].count("reloaded") == 2
    mark, mark_other = balancer.access.mark(), other.mark()
    visit()
    enforce(balancer, base)
    port = visit()
    balancer.access.wait_for(client_port=port)
    assert (len(balancer.access.lines()) - mark, other.mark() - mark_other) == (1, 0)


def test_what_needs_a_restart(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """Is said by name, in command and log; all else in the same file comes into force."""
    node = {**base["node"], "control_socket": str(tmp_path / "other.sock"), "pid_file": str(tmp_path / "pid")}
    balancer.rewrite({**changed(base, plain={"cps": 5000}), "node": node})
    done = nlb("reload", "--socket", balancer.control_socket)
    assert done.returncode == 0
    assert "listeners.plain.cps: 0 -> 5000" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "only a restart brings into force" in last
    assert "node.control_socket" in last
    assert "node.pid_file" in last
    said = {event["what"].split(":")[0] for event in balancer.find_events("needs_restart")}
    assert said == {"node.control_socket", "node.pid_file"}
    assert not (tmp_path / "other.sock").exists()
    assert not (tmp_path / "pid").exists()
