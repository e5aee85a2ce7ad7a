"""ALPN policies: which protocol is chosen from what a client offers, by the balancer's preference; the log has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

# policy, offered, chosen
CASES = [
    ("HTTP1Only", ["h2", "http/1.1", "http/1.0"], "http/1.1"),
    ("HTTP1Only", ["http/1.0"], "http/1.0"),
    ("HTTP2Only", ["http/1.1", "h2"], "h2"),
    ("HTTP2Optional", ["h2", "http/1.0", "http/1.1"], "http/1.1"),
    ("HTTP2Optional", ["h2", "http/1.0"], "http/1.0"),
    ("HTTP2Optional", ["h2"], "h2"),
    ("HTTP2Preferred", ["http/1.1", "h2"], "h2"),
    ("HTTP2Preferred", ["http/1.0", "http/1.1"], "http/1.1"),
    ("none", ["h2", "http/1.1"], None),
]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener per policy."""
    listeners = {}
    for policy in ("HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred", "none"):
        keys: dict[str, Any] = {} if policy == "none" else {"alpn_policy": policy}
        listeners[policy] = tls_listener(pki.server, ca=pki.root.path, **keys)
    return balancer_for({"listeners": listeners, "server_groups": {"app": server_group(backend)}})


@pytest.mark.parametrize(("policy", "offered", "chosen"), CASES)
def test_choice(
    balancer: Balancer, pki: Pki, version: ssl.TLSVersion, policy: str, offered: list[str], chosen: str | None
) -> None:
    """What both sides see."""
    context = client_context(pki.root.path, version, pki.client, alpn=offered)
    with TlsClient(balancer.port(policy), context) as client:
        client.handshake().ping()
        assert client.tls.selected_alpn_protocol() == chosen
    assert balancer.line(client).get("alpn") == chosen
