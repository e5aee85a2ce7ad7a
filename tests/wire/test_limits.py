"""Limits of a listener: `max_connections`, `cps`, `max_handshakes`. What is beyond is accepted, closed and logged with its word."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import Ended, TlsClient, client_context, connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

CPS = 5
BURST = 40


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener per limit."""

    def listener(**keys: Any) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, handshake_timeout="30s", **keys)

    return balancer_for(
        {
            "listeners": {
                "connections": listener(max_connections=2),
                "plain_connections": plain_listener(max_connections=2),
                "cps_TLSv1_2": listener(cps=CPS),
                "cps_TLSv1_3": listener(cps=CPS),
                "handshakes": listener(max_handshakes=2),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


def served(port: int, context: ssl.SSLContext) -> bool:
    """Whether a new client gets through; one that is over a limit may be reset as early as in its connect."""
    try:
        with TlsClient(port, context) as client:
            client.handshake().ping()
    except (Ended, OSError):
        return False
    return True


def test_max_connections(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """Two are served, the third is not; when one has left there is room again."""
    port = balancer.port("connections")
    mark = balancer.access.mark()
    with TlsClient(port, mutual) as first:
        with TlsClient(port, mutual) as second:
            first.handshake().ping()
            second.handshake().ping()
            assert not served(port, mutual)
            balancer.access.wait_for(since=mark, listener="connections", termination="connection_limit")
            first.ping()
            second.ping()
        wait_until(lambda: served(port, mutual), "there is room again")
        first.ping()
    balancer.line(first)


def test_max_connections_plain(balancer: Balancer) -> None:
    """The same on a plain listener."""
    port = balancer.port("plain_connections")
    with connect(port) as first, connect(port) as second:
        for sock in (first, second):
            sock.sendall(b"ping")
            assert sock.recv(10) == b"ping"
        with contextlib.suppress(ConnectionResetError), connect(port) as third:
            assert third.recv(10) == b""
        balancer.access.wait_for(listener="plain_connections", termination="connection_limit")


def test_cps(balancer: Balancer, backend: Backend, version: ssl.TLSVersion, mutual: ssl.SSLContext) -> None:
    """A burst far beyond the rate: some get through, no more than the rate and one second's worth allow; later ones do again."""
    backend.forget()
    listener = f"cps_{version.name}"
    mark = balancer.access.mark()
    start = time.monotonic()
    count = sum(served(balancer.port(listener), mutual) for _ in range(BURST))
    elapsed = time.monotonic() - start
    assert 1 <= count <= CPS * (elapsed + 1) + 1
    assert count < BURST
    assert balancer.access.wait_for(since=mark, termination="cps_limit")["listener"] == listener
    assert backend.accepted == count
    wait_until(lambda: served(balancer.port(listener), mutual), "connections are taken again", 3)


def test_max_handshakes(balancer: Balancer, pki: Pki) -> None:
    """Two clients stop in the middle of their handshake: a third is shed (`overload`); the two may still finish."""
    port = balancer.port("handshakes")
    context = client_context(pki.root.path, None, pki.client)
    with TlsClient(port, context) as first, TlsClient(port, context) as second:
        first.stop_before_last_flight()
        second.stop_before_last_flight()
        assert not served(port, context)
        assert balancer.access.wait_for(listener="handshakes")["termination"] == "overload"
        for client in (first, second):
            client.release()
            client.handshake().ping()
        assert served(port, context)
