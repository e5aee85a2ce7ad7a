"""Key exchange: the hybrid post-quantum group X25519MLKEM768 is offered and preferred, older clients get X25519 or a NIST curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from tests.support.programs import run
from tests.support.tls_client import connect

if TYPE_CHECKING:
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki


def test_hybrid_group(web: Balancer, pki: Pki) -> None:
    """A client with a new OpenSSL (the one inside `cryptography`) agrees on the hybrid group, and the log says so."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(pki.client.certificate)
    context.use_privatekey(pki.client.key)
    context.load_verify_locations(str(pki.root.path))
    context.set_verify(SSL.VERIFY_PEER)
    with connect(web.port()) as sock:
        sock.setblocking(True)
        client = SSL.Connection(context, sock)
        client.set_tlsext_host_name(b"www.example.com")
        client.set_connect_state()
        client.do_handshake()
        assert client.get_group_name() == "X25519MLKEM768"
        client.sendall(b"ping")
        assert client.recv(10) == b"ping"
        client.shutdown()
        assert web.line(sock)["tls_named_group"] == "X25519MLKEM768"


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [("X25519", "x25519"), ("P-256", "secp256r1"), ("P-384", "secp384r1"), ("P-521", "secp521r1")],
)
def test_classical_groups(web: Balancer, pki: Pki, offered: str, agreed: str) -> None:
    """Offered by OpenSSL 3.0, which has no hybrid group."""
    mark = web.access.mark()
    run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{web.port()}", "-tls1_3", "-groups", offered, "-no_ign_eof",
        "-cert", str(pki.client.path), "-key", str(pki.client.key_path), "-CAfile", str(pki.root.path), data=b"x\n",
    )  # fmt: skip
    names = {"prime256v1": "secp256r1", "p-256": "secp256r1", "p-384": "secp384r1"}
    group = web.access.wait_for(since=mark)["tls_named_group"].lower()
    assert names.get(group, group) == agreed
