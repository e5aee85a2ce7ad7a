"""Trust reaches live connections: who would be refused now is closed, with the reason; all others go on, and nobody waits.

A handshake that is on its way across the reload is judged by what is in force at its end.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.test_ten_thousand import descriptors, echo
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.lists import revocation_list, write_lists
from tests.support.ports import free_port
from tests.support.reloading import changed
from tests.support.tls_client import TlsClient, client_context, connect, refusal
from tests.support.waiting import wait_until
from tests.support.workers import Talkers, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

__all__ = ["descriptors", "echo"]

SECOND = 1.0
"""Of each worker's time, within which all are closed, from the first to the last. On the clock it may be more: half the
machine is busy with the clients, and other tests run beside."""


@pytest.fixture(scope="module")
def visitor(pki: Pki) -> Issued:
    """A client that will be revoked."""
    return pki.root.client("visitor")


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend) -> Tables:
    """Two CAs, no list."""
    return {
        "node": {"workers": 2},
        "listeners": {"web": tls_listener(pki.server, ca=[pki.root.path, pki.other.path])},
        "server_groups": {"app": server_group(backend)},
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


@pytest.fixture
def revoke(tmp_path: Path, pki: Pki, base: Tables) -> Callable[..., Tables]:
    """`revoke(certificate, ...)`: a configuration with a list with them."""

    def make(*revoked: Issued, **keys: object) -> Tables:
        crl = write_lists(tmp_path, revocation_list(pki.root, *revoked), revocation_list(pki.other))
        cas = [str(pki.root.path), str(pki.other.path)]
        return changed(base, web={"client_auth": {"mode": "required", "ca": cas, "crl": str(crl), **keys}})

    return make


def enforce(balancer: Balancer, tables: Tables) -> dict[str, Any]:
    balancer.rewrite(tables)
    return balancer.reload()


def of_each(
    stack: ExitStack, balancer: Balancer, pki: Pki, **certificates: Issued | None
) -> dict[str, list[TlsClient]]:
    """Clients with these certificates, each at both workers."""
    held = {}
    for name, certificate in certificates.items():
        context = client_context(pki.root.path, None, certificate)
        by_slot = spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)
        held[name] = [client for clients in by_slot.values() for client in clients]
    return held


def closed(balancer: Balancer, clients: list[TlsClient], word: str) -> None:
    """They have been closed with this word in the log, and their identity."""
    for client in clients:
        assert client.read_to_end(2)[0] == b""
        line = balancer.line(client)
        assert line["termination"] == word
        assert line["client_cert_proven"] is True


def test_revoked(balancer: Balancer, revoke: Callable[..., Tables], pki: Pki, visitor: Issued) -> None:
    """On a list now: closed by the time the reload answers, which counts them. Whoever is not on it talks on."""
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, bad=visitor, good=pki.client, other=pki.other.client("of-the-other"))
        with Talkers([*held["good"], *held["other"]]) as talkers:
            answer = enforce(balancer, revoke(visitor))
            assert answer["closed"] == len(held["bad"])
            closed(balancer, held["bad"], "became_revoked")
            talkers.wait_rounds()
        assert not talkers.error
        assert balancer.ask("status")["listeners"][0]["terminations"]["became_revoked"] == len(held["bad"])
        left = len(held["good"]) + len(held["other"])
        wait_until(lambda: balancer.ask("status")["connections"] == left, "only the others are counted")


def test_kept(balancer: Balancer, revoke: Callable[..., Tables], pki: Pki, visitor: Issued) -> None:
    """`on_revoked = "keep"`: live ones go on, new ones are refused."""
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, bad=visitor)
        assert enforce(balancer, revoke(visitor, on_revoked="keep"))["closed"] == 0
        for client in held["bad"]:
            client.ping(b"still here" * 1000)
        new = TlsClient(balancer.port(), client_context(pki.root.path, None, visitor))
        assert refusal(new) == "SSLV3_ALERT_CERTIFICATE_REVOKED"


def test_ca_removed(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """Clients of a CA that has gone are closed, those of the other one not."""
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, good=pki.client, bad=pki.other.client("of-the-other"))
        tables = changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path)}})
        assert enforce(balancer, tables)["closed"] == len(held["bad"])
        closed(balancer, held["bad"], "became_refused")
        for client in held["good"]:
            client.ping(b"still here" * 1000)


def test_ca_added(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """Nobody is closed, and clients of the new one come in."""
    enforce(balancer, changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path)}}))
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, good=pki.client)
        assert enforce(balancer, base)["closed"] == 0
        for client in (*held["good"], *of_each(stack, balancer, pki, new=pki.other.client("another"))["new"]):
            client.ping(b"still here" * 1000)


@pytest.mark.parametrize("by_way_of", ["off", "removed"])
def test_ca_removed_by_way_of(balancer: Balancer, base: Tables, pki: Pki, by_way_of: str) -> None:
    """Nor is there a way round in two steps: without client authentication, or without the listener, in between."""
    between = changed(base)
    if by_way_of == "off":
        del between["listeners"]["web"]["client_auth"]
    else:
        between["listeners"] = {"away": between["listeners"]["web"]}
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, good=pki.client, bad=pki.other.client("of-the-other"))
        assert enforce(balancer, between)["closed"] == 0
        tables = changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path)}})
        assert enforce(balancer, tables)["closed"] == len(held["bad"])
        closed(balancer, held["bad"], "became_refused")
        for client in held["good"]:
            client.ping()


def test_lower_depth(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """Who came through more intermediates than are allowed now is closed."""
    with ExitStack() as stack:
        held = of_each(stack, balancer, pki, good=pki.client, bad=pki.deep_client("deep", 2))
        cas = base["listeners"]["web"]["client_auth"]["ca"]
        tables = changed(base, web={"client_auth": {"mode": "required", "ca": cas, "depth": 0}})
        assert enforce(balancer, tables)["closed"] == len(held["bad"])
        closed(balancer, held["bad"], "became_refused")
        for client in held["good"]:
            client.ping()


def test_required_now(balancer: Balancer, base: Tables, pki: Pki) -> None:
    """From off to required: who has shown no certificate is closed; from required to off: nobody."""
    without = changed(base)
    del without["listeners"]["web"]["client_auth"]
    with ExitStack() as stack:
        shown = of_each(stack, balancer, pki, good=pki.client)["good"]
        assert enforce(balancer, without)["closed"] == 0
        bare = of_each(stack, balancer, pki, bare=None)["bare"]
        for client in (*shown, *bare):
            client.ping(b"still here" * 1000)
        enforce(balancer, base)
        for client in bare:
            assert client.read_to_end(2)[0] == b""
            assert balancer.line(client)["termination"] == "became_refused"


def test_resumed(balancer: Balancer, revoke: Callable[..., Tables], pki: Pki, visitor: Issued, version: Any) -> None:
    """A connection that began with a ticket is closed like any other."""
    context = client_context(pki.root.path, version, visitor)
    with closing(tls_client(balancer.port(), context)) as first:
        first.ping()
        session = first.session
    with closing(tls_client(balancer.port(), context, session)) as client:
        client.ping()
        assert client.resumed
        assert enforce(balancer, revoke(visitor))["closed"] == 1
        closed(balancer, [client], "became_revoked")


def test_half_way(balancer: Balancer, revoke: Callable[..., Tables], pki: Pki, visitor: Issued, version: Any) -> None:
    """In the middle of its handshake while the list comes into force: refused at the end of it, as `revoked`. One that is not
    on the list comes in, and one that has said nothing yet too.
    """
    contexts = {
        name: client_context(pki.root.path, version, one) for name, one in (("bad", visitor), ("good", pki.client))
    }
    with ExitStack() as stack:
        bad, good = (stack.enter_context(TlsClient(balancer.port(), contexts[name])) for name in ("bad", "good"))
        late = stack.enter_context(TlsClient(balancer.port(), contexts["good"]))
        for client in (bad, good):
            client.stop_before_last_flight()
        assert enforce(balancer, revoke(visitor))["closed"] == 0
        for client in (bad, good):
            client.release()
        assert refusal(bad) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert balancer.line(bad)["termination"] == "revoked"
        for client in (good, late):
            client.handshake().ping(b"x" * 50_000)


def test_half_way_without_a_ca(balancer: Balancer, base: Tables, pki: Pki, version: Any) -> None:
    """The same with a CA that goes, whose client has been told before that it is welcome."""
    with TlsClient(balancer.port(), client_context(pki.root.path, version, pki.other.client("half-way"))) as client:
        client.stop_before_last_flight()
        enforce(balancer, changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path)}}))
        client.release()
        refusal(client)
        assert balancer.line(client)["termination"] == "unknown_ca"


def test_back_again(balancer: Balancer, revoke: Callable[..., Tables], base: Tables, pki: Pki, visitor: Issued) -> None:
    """What has been revoked by mistake comes in again when the list is gone."""
    enforce(balancer, revoke(visitor))
    context = client_context(pki.root.path, None, visitor)
    refusal(TlsClient(balancer.port(), context))
    enforce(balancer, base)
    with closing(tls_client(balancer.port(), context)) as client:
        client.ping()


# -- many -----------------------------------------------------------------------------------------------------------------


class Crowd:
    """Open connections with one certificate; more than `select()` takes."""

    def __init__(self, stack: ExitStack, port: int, context: ssl.SSLContext, count: int) -> None:
        self.sockets = [
            stack.enter_context(context.wrap_socket(connect(port), server_hostname="www.example.com"))
            for _ in range(count)
        ]
        self.ping()

    def ping(self) -> None:
        for one in self.sockets:
            one.sendall(b"ping")
        for one in self.sockets:
            assert one.recv(10) == b"ping"

    def ends(self, patience: float = 20) -> list[float]:
        """Wait for the end of all; the moments."""
        with selectors.DefaultSelector() as selector:
            for one in self.sockets:
                selector.register(one, selectors.EVENT_READ)
            found: list[float] = []
            while len(found) < len(self.sockets):
                ready = selector.select(patience)
                assert ready, f"{len(found)} of {len(self.sockets)} are closed"
                moment = time.monotonic()
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                    found.append(moment)
        for one in self.sockets:
            assert isinstance(one, socket.socket)
            assert one.recv(10) == b""
        return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [300, pytest.param(9000, marks=pytest.mark.soak)])
def test_many(
    run: Callable[..., Balancer],
    base: Tables,
    echo: str,
    descriptors: None,
    revoke: Callable[..., Tables],
    pki: Pki,
    visitor: Issued,
    count: int,
) -> None:
    """All are closed within a second, while others talk on."""
    with ExitStack() as stack:
        groups = {"server_groups": {"app": server_group({"address": echo})}}
        bind = f"127.0.0.1:{free_port()}"
        balancer = run({**changed(base, web={"bind": bind}), **groups})
        crowd = Crowd(stack, balancer.port(), client_context(pki.root.path, None, visitor), count)
        others = Crowd(stack, balancer.port(), client_context(pki.root.path, None, pki.client), count // 10)
        balancer.rewrite({**changed(revoke(visitor), web={"bind": bind}), **groups})
        worked = [sum(worker.cpu_times()[:2]) for worker in balancer.workers()]
        asked = time.monotonic()
        balancer.signal(signal.SIGHUP)
        ends = crowd.ends()
        worked = [
            sum(worker.cpu_times()[:2]) - before for worker, before in zip(balancer.workers(), worked, strict=True)
        ]
        others.ping()
        took = balancer.wait_event("reloaded")
        seconds = max(ends) - min(ends)
        print(f"{count} revoked: {seconds:.3f} s, of the workers' time {worked}, reload {took['took']}")
        assert took["closed"] == str(count)
        assert max(worked) < SECOND
        assert seconds < 3 * SECOND
        assert max(ends) - asked < 10
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all have left", 30)
