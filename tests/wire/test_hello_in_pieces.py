"""A ClientHello in TCP segments of one byte, or in TLS records of one byte, is an ordinary handshake: with its server name seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.tls_client import TlsClient

if TYPE_CHECKING:
    import ssl

    from tests.support.balancer import Balancer


@pytest.mark.parametrize("options", [{"chop": 1}, {"split_records": True}], ids=["segments", "records"])
def test_pieces(web: Balancer, mutual: ssl.SSLContext, options: dict[str, Any]) -> None:
    """Served, and logged with name and identity."""
    with TlsClient(web.port(), mutual, server_name="www.example.com", **options) as client:
        client.handshake().ping()
    line = web.line(client)
    assert line["termination"] == "client_close"
    assert line["domain_name"] == "www.example.com"
    assert line["client_cert_proven"] is True
