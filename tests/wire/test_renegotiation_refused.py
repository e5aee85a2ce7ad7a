"""TLS 1.2 renegotiation, asked for by a client, is refused and harms nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.programs import run

if TYPE_CHECKING:
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki
    from tests.support.tls_client import TlsClient


def test_renegotiation(web: Balancer, pki: Pki, neighbour: TlsClient) -> None:
    """`R` of `openssl s_client` gets an alert."""
    done = run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{web.port()}", "-tls1_2", "-CAfile", str(pki.root.path),
        "-cert", str(pki.client.path), "-key", str(pki.client.key_path), data=b"R\n", check=False,
    )  # fmt: skip
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in (done.stdout + done.stderr).lower()
    neighbour.ping()
