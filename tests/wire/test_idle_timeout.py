"""`idle_timeout` (10 s is the least) ends a connection on which nothing happens, TLS or plain, and no other.

All connections wait at the same time, in this one test: time is the behaviour here.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import TLS12, TLS13, Ended, TlsClient, client_context, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

LIMIT = 10.0


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """The shortest idle timeout."""
    return balancer_for(
        {
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path, idle_timeout=f"{LIMIT:g}s"),
                "plain": plain_listener(idle_timeout=f"{LIMIT:g}s"),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


def test_idle_timeout(balancer: Balancer, pki: Pki) -> None:
    """Idle ones end after 10 s with `idle_timeout`; one with a byte now and then lives on."""
    with (
        TlsClient(balancer.port(), client_context(pki.root.path, TLS12, pki.client)) as idle12,
        TlsClient(balancer.port(), client_context(pki.root.path, TLS13, pki.client)) as idle13,
        TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as active,
        connect(balancer.port("plain")) as plain,
    ):
        start = time.monotonic()
        for client in (idle12, idle13, active):
            client.handshake().ping()
        plain.sendall(b"ping")
        assert plain.recv(10) == b"ping"
        while time.monotonic() - start < LIMIT - 1:
            time.sleep(1.5)
            active.ping()
            assert not balancer.access.lines()
        for client in (idle12, idle13):
            with contextlib.suppress(Ended):
                assert client.recv(timeout=4) == b""
            assert LIMIT - 0.5 < time.monotonic() - start < LIMIT + 3
            assert balancer.line(client)["termination"] == "idle_timeout"
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""
        assert balancer.line(plain)["termination"] == "idle_timeout"
        active.ping()
