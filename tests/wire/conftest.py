"""What most files here use: an echo server, a balancer with one mutual-TLS listener before it, and a good client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """An echo server."""
    server: Backend = use(Backend())
    return server


@pytest.fixture(scope="module")
def sink(use: Callable[[Any], Any]) -> Backend:
    """A server that only reads."""
    server: Backend = use(Backend(backends.sink))
    return server


@pytest.fixture(scope="module")
def before(balancer_for: Callable[..., Balancer], pki: Pki) -> Callable[..., Balancer]:
    """`before(web=SERVER, ...)`: a balancer with a listener of each name before that server, client certificates of the root
    required.
    """

    def start(**servers: Backend) -> Balancer:
        return balancer_for(
            {
                "listeners": {name: tls_listener(pki.server, ca=pki.root.path, group=name) for name in servers},
                "server_groups": {name: server_group(server) for name, server in servers.items()},
            }
        )

    return start


@pytest.fixture(scope="module")
def web(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A balancer with the listener "web": client certificates of the root required, the echo server behind it."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path, handshake_timeout="5s")},
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.fixture
def mutual(pki: Pki, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A good client of one TLS version."""
    return client_context(pki.root.path, version, pki.client)


@pytest.fixture
def neighbour(web: Balancer, backend: Backend, pki: Pki) -> Iterator[TlsClient]:
    """A good connection that lives while others misbehave: it must work before and after. The server has seen only this one."""
    backend.forget()
    with TlsClient(web.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping(b"before")
        yield client
        client.ping(b"after")
