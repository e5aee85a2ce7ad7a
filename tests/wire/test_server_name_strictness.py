"""`strict_sni` refuses only names that no certificate covers; without it every name gets the default certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A strict and a lax listener."""
    return balancer_for(
        {
            "listeners": {
                "strict": tls_listener(pki.server, ca=pki.root.path, strict_sni=True),
                "lax": tls_listener(pki.server, ca=pki.root.path),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize(
    ("listener", "name"),
    [("strict", "www.example.com"), ("strict", "WWW.Example.COM"), ("lax", "unknown.example.net"), ("lax", None)],
)
def test_served(balancer: Balancer, pki: Pki, version: ssl.TLSVersion, listener: str, name: str | None) -> None:
    """Served, and the name is in the log as a name."""
    context = client_context(None, version, pki.client)
    with TlsClient(balancer.port(listener), context, server_name=name) as client:
        client.handshake().ping()
        assert client.peer_der() == pki.server.der
    logged = balancer.line(client).get("domain_name")
    assert (logged.lower() if logged else None) == (name.lower() if name else None)
