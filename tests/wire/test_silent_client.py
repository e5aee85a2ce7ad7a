"""A client that never speaks, or stops in the middle of its hello, is closed after `handshake_timeout`; others do not wait for it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context, connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

LIMIT = 1.0
SILENT = 300


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener with the shortest handshake timeout."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path, handshake_timeout=f"{LIMIT:g}s")},
            "server_groups": {"app": server_group(backend)},
        }
    )


def test_no_byte_at_all(balancer: Balancer, backend: Backend) -> None:
    """Closed in time, logged, nothing sent to a server."""
    backend.forget()
    with connect(balancer.port()) as sock:
        start = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        assert LIMIT * 0.8 < time.monotonic() - start < LIMIT + 2
        assert balancer.line(sock)["termination"] == "handshake_timeout"
    assert backend.accepted == 0


@pytest.mark.parametrize("part", [1, 5, 100])
def test_part_of_a_hello(balancer: Balancer, backend: Backend, pki: Pki, part: int) -> None:
    """Some bytes of the ClientHello, then silence."""
    backend.forget()
    client = TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client))
    start = time.monotonic()
    client.send_raw(client.first_flight()[:part])
    assert client.sock.fileno() >= 0
    client.sock.settimeout(10)
    try:
        while client.sock.recv(100):
            pass
    except ConnectionResetError:
        pass
    assert LIMIT * 0.8 < time.monotonic() - start < LIMIT + 2
    client.close()
    assert balancer.line(client)["termination"] == "handshake_timeout"
    assert backend.accepted == 0


def test_stops_before_its_certificate(balancer: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """The hello is answered, and the client's last flight never comes."""
    backend.forget()
    client = TlsClient(balancer.port(), mutual)
    client.stop_before_last_flight()
    assert balancer.line(client)["termination"] == "handshake_timeout"
    client.sock.close()
    assert backend.accepted == 0


def test_one_byte_at_a_time_for_ever(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """Slow bytes do not prolong the time: it is for the whole handshake."""
    client = TlsClient(balancer.port(), mutual)
    flight = client.first_flight()
    start = time.monotonic()
    sent = iter(flight)

    def dribble() -> bool:
        try:
            client.sock.send(bytes([next(sent)]))
        except OSError:
            return True
        return bool(balancer.access.find(client_port=client.port))

    wait_until(dribble, "the dribbling client is closed")
    assert time.monotonic() - start < LIMIT + 2
    client.sock.close()
    assert balancer.line(client)["termination"] == "handshake_timeout"


def test_many_silent_ones_delay_nobody(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """With hundreds of silent clients connected, a good one is served long before their time is over."""
    silent = [connect(balancer.port()) for _ in range(SILENT)]
    start = time.monotonic()
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping()
    assert time.monotonic() - start < LIMIT
    for sock in silent:
        sock.close()
