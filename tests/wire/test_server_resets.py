"""A server resets: logged `server_reset`, the client's connection ends and not as if all were well, the neighbours go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], backend: Backend, pki: Pki) -> Balancer:
    """One listener before a resetting server, one before an echo."""
    return balancer_for(
        {
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path),
                "resets": tls_listener(pki.server, ca=pki.root.path, group="resets"),
            },
            "server_groups": {
                "app": server_group(backend),
                "resets": server_group(use(Backend(backends.reset_after_first_bytes))),
            },
        }
    )


def test_server_resets(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """The client must not take it for a complete answer: no close_notify."""
    with TlsClient(balancer.port(), mutual) as neighbour, TlsClient(balancer.port("resets"), mutual) as client:
        neighbour.handshake().ping()
        client.handshake().send(b"question")
        data, end = client.read_to_end()
        assert data == b""
        assert end != CLOSE_NOTIFY
        neighbour.ping()
    assert balancer.line(client)["termination"] == "server_reset"
