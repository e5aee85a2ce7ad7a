"""Reloads that add, remove, rename and move listeners: who comes to an address that stays is served without a gap."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.ports import free_port
from tests.support.reloading import changed, descriptors, no_more_than
from tests.support.workers import PlainClient, Talkers, Visitors, refused, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.reloading import Tables


@pytest.fixture(scope="module")
def base(backend: Backend, use: Callable[[Any], Any]) -> Tables:
    """One listener in front of an echo server, one in front of a server that greets."""
    other: Backend = use(Backend(greet(b"other")))
    return {
        "node": {"workers": 2, "drain_timeout": "1s"},
        "listeners": {"plain": plain_listener(), "other": plain_listener(group="other")},
        "server_groups": {"app": server_group(backend), "other": server_group(other)},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(running: Balancer, base: Tables) -> Iterator[Balancer]:
    """With the base in force, before and after."""
    yield running
    running.rewrite(base)
    running.reload()


def test_added(balancer: Balancer, base: Tables) -> None:
    """A new port answers, at both workers; when it is gone again, everybody has as many descriptors as before."""
    before = descriptors(balancer)
    balancer.rewrite(changed(base, new=plain_listener()))
    balancer.reload()
    with ExitStack() as stack:
        spread(stack, partial(PlainClient, balancer.port("new")), balancer, 1)
    status = balancer.ask("status")
    assert [one["name"] for one in status["listeners"]] == ["plain", "other", "new"]
    assert status["listeners"][2]["connections_total"] >= 2
    balancer.rewrite(base)
    balancer.reload()
    no_more_than(balancer, before)


def test_second_address(balancer: Balancer, base: Tables) -> None:
    """Added to a listener that is there: both answer, the first one all the time."""
    second = free_port()
    with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
        balancer.rewrite(changed(base, plain={"bind": [base["listeners"]["plain"]["bind"], f"127.0.0.1:{second}"]}))
        balancer.reload()
        with closing(PlainClient(second)) as client:
            client.ping()
        visitors.wait_since(time.monotonic())
    visitors.all_served(0, 5)


def test_removed(balancer: Balancer, base: Tables) -> None:
    """Its port refuses; who is connected goes on until `drain_timeout` is over, then is cut; nobody else notices."""
    port = balancer.port("plain")
    with ExitStack() as stack:
        live = spread(stack, partial(PlainClient, port), balancer, 1)
        stays = stack.enter_context(closing(PlainClient(balancer.port("other"))))
        clients = [*live[0], *live[1]]
        balancer.rewrite(changed(base, plain=None))
        balancer.reload()
        moment = time.monotonic()
        assert refused(port)
        for client in clients:
            client.ping(b"still here" * 1000)
        for client in clients:
            client.read_to_end()
        assert 0.5 < time.monotonic() - moment < 5
        for client in clients:
            line = balancer.line(client)
            assert line["termination"] == "drained"
        assert stays.sock.recv(5) == b"other"
        stays.ping()
    assert [one["name"] for one in balancer.ask("status")["listeners"]] == ["other"]


def test_removed_and_back(balancer: Balancer, base: Tables) -> None:
    """A listener that comes back while its last connections drain is as before: they go on, and are counted."""
    with closing(PlainClient(balancer.port("plain"))) as live:
        live.ping()
        balancer.rewrite(changed(base, plain=None))
        balancer.reload()
        balancer.rewrite(base)
        balancer.reload()
        moment = time.monotonic()
        with Talkers([live]) as talkers:
            while time.monotonic() < moment + 2:
                talkers.wait_rounds()
        assert balancer.ask("status")["listeners"][0]["connections"] == 1


def test_renamed(balancer: Balancer, base: Tables) -> None:
    """Another name at the same address, several times: not one new client is lost."""
    port = balancer.port("plain")
    with Visitors(partial(PlainClient, port)) as visitors:
        for name in ("first", "second", "third"):
            balancer.rewrite(changed(base, plain=None, **{name: base["listeners"]["plain"]}))
            balancer.reload()
            visitors.wait_since(time.monotonic(), 5)
    visitors.all_served(0, 5)
    with closing(PlainClient(port)) as client:
        client.ping()
    assert balancer.line(client)["listener"] == "third"


def test_moved(balancer: Balancer, base: Tables) -> None:
    """Two listeners exchange their addresses: each serves at the other's from then on, and nobody is refused."""
    binds = [base["listeners"][name]["bind"] for name in ("plain", "other")]
    ports = [balancer.port(name) for name in ("plain", "other")]
    with closing(PlainClient(ports[0])) as live, Visitors(partial(Either, ports[0])) as visitors:
        live.ping()
        balancer.rewrite(changed(base, plain={"bind": binds[1]}, other={"bind": binds[0]}))
        balancer.reload()
        live.ping()
        moment = time.monotonic()
        visitors.wait_since(moment, 5)
    visitors.all_served(0, 5)
    with closing(PlainClient(ports[0])) as client:
        assert client.sock.recv(5) == b"other"
    with closing(PlainClient(ports[1])) as client:
        client.ping()


class Either(PlainClient):
    """A client that is content with either server."""

    def ping(self, data: bytes = b"ping", timeout: float = 10) -> float:
        self.sock.sendall(data)
        self.sock.shutdown(socket.SHUT_WR)
        answer, _ = self.read_to_end(timeout)
        assert answer in (data, b"other" + data), answer
        return 0.0


def test_unix_listener(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """A socket in the file system comes and goes with its listener."""
    path = tmp_path / "app.sock"
    balancer.rewrite(changed(base, new=plain_listener(bind=f"unix:{path}")))
    balancer.reload()
    with closing(PlainClient(path)) as client:
        client.ping()
    balancer.rewrite(base)
    balancer.reload()
    assert not path.exists()
