"""What a reload brings to new connections while those that are open go on as they began."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.reloading import Material, changed
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.certs import Pki
    from tests.support.reloading import Tables


@pytest.fixture(scope="module")
def material(pki: Pki, module_folder: Path) -> Material:
    """That of the listener "web"."""
    return Material(module_folder, pki.server)


@pytest.fixture(scope="module")
def servers(use: Callable[[Any], Any]) -> dict[str, Backend]:
    """Servers that greet with their names."""
    return {name: use(Backend(greet(name.encode()))) for name in "abc"}


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend, servers: dict[str, Backend], material: Material) -> Tables:
    """What every test begins with: "web" in front of the echo server, "plain" in front of a and b in turn, "other" in front of c."""
    listeners = {"web": tls_listener(material, ca=pki.root.path), "plain": plain_listener(group="ab")}
    listeners["other"] = plain_listener(group="c")
    groups = {
        "app": server_group(backend),
        "ab": server_group(*(servers[name].entry(name=name) for name in "ab")),
        "c": server_group(servers["c"].entry(name="c")),
    }
    return {"node": {"workers": 2}, "listeners": listeners, "server_groups": groups}


@pytest.fixture
def balancer(running: Balancer, base: Tables) -> Iterator[Balancer]:
    """With the base in force, before and after."""
    yield running
    running.rewrite(base)
    running.reload()


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


def greeted(port: int, count: int) -> Counter[str]:
    """Who greets so many new clients."""
    found: Counter[str] = Counter()
    for _ in range(count):
        with closing(PlainClient(port)) as client:
            found[client.sock.recv(1).decode()] += 1
    return found


def test_certificate(balancer: Balancer, context: ssl.SSLContext, pki: Pki, material: Material) -> None:
    """At both workers; the generation before lives as long as its last connection, and the command says what has changed."""
    other = pki.root.server("www.example.com")
    old = balancer.ask("status")["generation"]
    with ExitStack() as stack:
        live = spread(stack, lambda: tls_client(balancer.port(), context), balancer, 1)
        material.renew(other)
        done = nlb("reload", "--socket", balancer.control_socket)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"generation {old + 1} is in force\n")
        assert "web" in done.stdout
        new = spread(stack, lambda: tls_client(balancer.port(), context), balancer, 1)
        for clients, shown in ((live, pki.server), (new, other)):
            for client in (*clients[0], *clients[1]):
                client.ping(b"still here" * 5000)
                assert client.peer_der() == shown.der
        status = balancer.ask("status")
        assert (status["generation"], status["generations"]) == (old + 1, [old, old + 1])
        for client in (*live[0], *live[1]):
            client.close()
            assert balancer.line(client)["generation"] == old
        wait_until(lambda: balancer.ask("status")["generations"] == [old + 1], "the old generation is freed")
    assert balancer.line(new[0][0])["generation"] == old + 1
    material.renew(pki.server)


def test_nothing_has_changed(balancer: Balancer) -> None:
    """A reload that changes nothing makes no generation, and says so."""
    before = balancer.ask("status")
    done = nlb("reload", "--socket", balancer.control_socket)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["  nothing has changed"])
    after = balancer.ask("status")
    assert after["generation"] == before["generation"]
    assert after["reloads"]["successful"] == before["reloads"]["successful"] + 1


def test_server_group(balancer: Balancer, base: Tables) -> None:
    """Another group for new connections; an open one stays with its server."""
    with closing(PlainClient(balancer.port("plain"))) as live:
        first = live.sock.recv(1)
        balancer.rewrite(changed(base, plain={"server_group": "c"}))
        assert balancer.reload()["changes"] == ["listeners.plain.server_group: ab -> c"]
        assert greeted(balancer.port("plain"), 6) == {"c": 6}
        live.ping(b"still here" * 1000)
        assert first in (b"a", b"b")


def test_weights(balancer: Balancer, base: Tables) -> None:
    """In the ratio of the file, and none for 0; an open connection stays with a server of weight 0."""
    for a, b in ((25, 75), (0, 100)):
        new = changed(base)
        new["server_groups"]["ab"]["servers"] = [
            {**one, "weight": weight}
            for one, weight in zip(base["server_groups"]["ab"]["servers"], (a, b), strict=True)
        ]
        balancer.rewrite(new)
        with closing(PlainClient(balancer.port("plain"))) as live:
            live.sock.recv(1)
            balancer.reload()
            live.ping()
        found = greeted(balancer.port("plain"), 40)
        assert abs(found["b"] * 100 / 40 - b) <= 5 if a else found == {"b": 40}, found


def test_timeout(balancer: Balancer, base: Tables) -> None:
    """A silent client that comes afterwards is sent away by the new time, not by the default of 10 s."""
    balancer.rewrite(changed(base, web={"handshake_timeout": "1s"}))
    balancer.reload()
    with closing(PlainClient(balancer.port())) as silent:
        moment = time.monotonic()
        assert silent.read_to_end()[0] == b""
        assert 0.8 < time.monotonic() - moment < 6


@pytest.mark.soak
def test_idle_timeout(balancer: Balancer, base: Tables) -> None:
    """For connections that begin afterwards; one that began before keeps the old time. (The least is 10 s.)"""
    with closing(PlainClient(balancer.port("plain"))) as live:
        live.sock.recv(1)
        balancer.rewrite(changed(base, plain={"idle_timeout": "10s"}))
        balancer.reload()
        with closing(PlainClient(balancer.port("plain"))) as idle:
            moment = time.monotonic()
            assert len(idle.read_to_end(20)[0]) == 1  # the greeting
            assert 9.5 < time.monotonic() - moment < 15
        live.ping()


def test_limits(balancer: Balancer, base: Tables) -> None:
    """`max_connections` counts those that are open already: at the limit the next one is sent away."""
    with closing(PlainClient(balancer.port("plain"))) as live:
        live.sock.recv(1)
        balancer.rewrite(changed(base, plain={"max_connections": 1}))
        balancer.reload()
        # it may come so soon that it is in the middle of connect()
        with suppress(ConnectionError), closing(PlainClient(balancer.port("plain"))) as refused:
            assert refused.read_to_end()[0] == b""
        balancer.access.wait_for(listener="plain", termination="connection_limit")
        live.ping()
