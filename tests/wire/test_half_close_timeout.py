"""`half_close_timeout`: after one side has ended, the other may go on only so long, even if it keeps sending."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki

LIMIT = 1.0


class Holder(Backend):
    """A server that keeps its own direction open after the client's end."""

    def __init__(self) -> None:
        self.release = threading.Event()
        super().__init__(backends.hold(self.release))

    def close(self) -> None:
        """Let go first."""
        self.release.set()
        super().close()


@pytest.fixture(scope="module")
def holder(use: Callable[[Any], Any]) -> Holder:
    """The holding server."""
    return use(Holder())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], holder: Holder, pki: Pki) -> Balancer:
    """A short half-close timeout."""
    listener = tls_listener(pki.server, ca=pki.root.path, half_close_timeout=f"{LIMIT:g}s")
    return balancer_for({"listeners": {"web": listener}, "server_groups": {"app": server_group(holder)}})


def test_half_close_timeout(balancer: Balancer, holder: Holder, mutual: ssl.SSLContext) -> None:
    """The client has ended and waits; the server never ends: over after the timeout."""
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().send(b"over")
        client.close_notify()
        start = time.monotonic()
        assert client.read_to_end()[0] == b""
        assert LIMIT * 0.8 < time.monotonic() - start < LIMIT + 2
    assert balancer.line(client)["termination"] in {"client_close", "idle_timeout"}
    holder.release.set()
    holder.wait_finished()
    holder.release.clear()
