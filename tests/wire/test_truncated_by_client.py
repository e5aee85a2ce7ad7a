"""A client that ends without close_notify (FIN only): what it sent is delivered, the log says `truncated`.

`on_truncated = "close"`: a half-close as after close_notify, so the server sees end of file and its answer still arrives.
`on_truncated = "reset"`: after the data the server sees a reset. A proper end is never called truncated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, Seen
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki


MUCH = 2 << 20


def read_slowly(seen: Seen) -> None:
    """Busy for a moment, then reading in small portions."""
    time.sleep(1)  # time is the behaviour
    while seen.recv(32768):
        time.sleep(0.005)


@pytest.fixture(scope="module")
def slow(use: Callable[[Any], Any]) -> Backend:
    """A server that takes its time."""
    return use(Backend(read_slowly))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """A server that answers only after the end of what it is sent."""
    return use(Backend(backends.digest_then_close))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, slow: Backend, pki: Pki) -> Balancer:
    """A listener for each manner; "default" says nothing."""
    return balancer_for(
        {
            "listeners": {
                "default": tls_listener(pki.server, ca=pki.root.path),
                "close": tls_listener(pki.server, ca=pki.root.path, on_truncated="close"),
                "reset": tls_listener(pki.server, ca=pki.root.path, on_truncated="reset"),
                "slow": tls_listener(pki.server, ca=pki.root.path, group="slow", on_truncated="reset"),
            },
            "server_groups": {"app": server_group(backend), "slow": server_group(slow)},
        }
    )


@pytest.mark.parametrize("listener", ["default", "close"])
def test_close(balancer: Balancer, backend: Backend, mutual: ssl.SSLContext, listener: str) -> None:
    """End of file at the server, its answer at the client."""
    with TlsClient(balancer.port(listener), mutual) as client:
        client.handshake().send(b"cut off")
        client.fin()
        data, end = client.read_to_end()
        assert (len(data), end) == (64, CLOSE_NOTIFY)
    backend.wait_finished()
    assert (bytes(backend.last.data), backend.last.end) == (b"cut off", "eof")
    assert balancer.line(client)["termination"] == "truncated"


def test_reset(balancer: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """The data, then a reset at the server."""
    backend.forget()
    with TlsClient(balancer.port("reset"), mutual) as client:
        client.handshake().send(b"cut off")
        client.fin()
        backend.wait_accepted(1)
        backend.wait_finished()
        assert (bytes(backend.last.data), backend.last.end) == (b"cut off", "reset")
        assert client.read_to_end()[0] == b""
    assert balancer.line(client)["termination"] == "truncated"


def test_reset_waits_for_a_slow_server(balancer: Balancer, slow: Backend, mutual: ssl.SSLContext) -> None:
    """All of 2 MiB, most of it queued when the client ended, and only then the reset."""
    slow.forget()
    with TlsClient(balancer.port("slow"), mutual) as client:
        client.handshake().send(b"t" * MUCH)
        client.fin()
        slow.wait_accepted(1)
        slow.wait_finished()
        assert (slow.last.received, slow.last.end) == (MUCH, "reset")
    line = balancer.line(client)
    assert (line["termination"], line["received_bytes"]) == ("truncated", MUCH)


@pytest.mark.parametrize("listener", ["close", "reset"])
def test_proper_end_is_not_truncated(
    balancer: Balancer, backend: Backend, mutual: ssl.SSLContext, listener: str
) -> None:
    """close_notify before the FIN: end of file, `client_close`."""
    with TlsClient(balancer.port(listener), mutual) as client:
        client.handshake().send(b"all of it")
        client.close_notify()
        client.fin()
        assert len(client.read_to_end()[0]) == 64
    backend.wait_finished()
    assert backend.last.end == "eof"
    assert balancer.line(client)["termination"] == "client_close"
