"""Chains of client certificates: how deep they may be, and that only a CA can issue.

`depth` counts the intermediates between the client certificate and a CA of `ca`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

ANY_REFUSAL = {"bad_certificate", "chain_too_long", "unknown_ca", "wrong_purpose", "bad_signature"}


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener per depth; "default" is 3."""

    def listener(**options: object) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth=options)

    depths = {f"depth{depth}": listener(depth=depth) for depth in (0, 1, 2)}
    return balancer_for(
        {"listeners": {"default": listener(), **depths}, "server_groups": {"app": server_group(backend)}}
    )


@pytest.fixture(scope="module")
def clients(pki: Pki) -> dict[int, Issued]:
    """A client below so many intermediates."""
    return {count: pki.deep_client(f"below-{count}", count) for count in range(5)}


@pytest.mark.parametrize(("listener", "allowed"), [("depth0", 0), ("depth1", 1), ("depth2", 2), ("default", 3)])
def test_depth(
    balancer: Balancer,
    backend: Backend,
    pki: Pki,
    clients: dict[int, Issued],
    version: ssl.TLSVersion,
    listener: str,
    allowed: int,
) -> None:
    """Exactly `depth` intermediates are let in, one more is `chain_too_long`."""
    with TlsClient(balancer.port(listener), client_context(pki.root.path, version, clients[allowed])) as client:
        client.handshake().ping()
    assert clients[allowed].common_name in balancer.line(client)["client_cert_subject"]
    backend.forget()
    client = TlsClient(balancer.port(listener), client_context(pki.root.path, version, clients[allowed + 1]))
    refusal(client)
    assert balancer.line(client)["termination"] == "chain_too_long"
    assert backend.accepted == 0


def _issued_by_a_leaf(pki: Pki) -> Issued:
    """A client that issues a certificate as if it were a CA."""
    leaf = Authority(pki.folder, "Only A Leaf", issuer=pki.root, is_ca=False)
    return leaf.client("by-a-leaf")


def _path_length(pki: Pki) -> Issued:
    """An intermediate below one that may have none below it."""
    last = pki.root.intermediate("Last One", path_length=0)
    return last.intermediate("One Too Many").client("too-low")


def _ca_as_client(pki: Pki) -> Issued:
    """A CA certificate used as a client."""
    return pki.root.client("ca-client", is_ca=True)


def _nameless(pki: Pki) -> Issued:
    """Neither a subject nor a subjectAltName."""
    return pki.root.client("nameless", subject=x509.Name([]))


@pytest.mark.parametrize("make", [_issued_by_a_leaf, _path_length, _ca_as_client, _nameless])
def test_never_accepted(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, make: Callable[[Pki], Issued]
) -> None:
    """Refused with a word about the certificate, nothing at a server."""
    backend.forget()
    client = TlsClient(balancer.port("default"), client_context(pki.root.path, version, make(pki)))
    refusal(client)
    line = balancer.line(client)
    assert line["termination"] in ANY_REFUSAL
    assert line["client_cert_proven"] is False
    assert backend.accepted == 0
