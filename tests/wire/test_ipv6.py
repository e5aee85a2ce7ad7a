"""IPv6 on both sides: a listener on [::1] beside one on 127.0.0.1, a server on [::1]; the log has the address without brackets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.tls_client import TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], pki: Pki) -> Balancer:
    """One listener with two addresses."""
    port = free_port()
    listener = tls_listener(pki.server, ca=pki.root.path, bind=[f"127.0.0.1:{port}", f"[::1]:{port}"])
    return balancer_for(
        {"listeners": {"web": listener}, "server_groups": {"app": server_group(use(Backend(host="::1")))}}
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families(balancer: Balancer, mutual: ssl.SSLContext, host: str) -> None:
    """The same listener, whichever way in."""
    with TlsClient((host, balancer.port()), mutual) as client:
        client.handshake().ping()
    line = balancer.line(client)
    assert (line["client_ip"], line["listener"]) == (host, "web")
    assert line["server"].startswith("[::1]:")
