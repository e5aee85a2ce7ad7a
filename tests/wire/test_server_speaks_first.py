"""A server that speaks first (SMTP, MySQL): its greeting reaches a client that has sent nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.tls_client import TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """A server with a greeting."""
    return use(Backend(backends.greet(b"220 ready\r\n")))  # type: ignore[no-any-return]


def test_greeting_comes_first(web: Balancer, mutual: ssl.SSLContext) -> None:
    """The greeting, then a conversation."""
    with TlsClient(web.port(), mutual) as client:
        assert client.handshake().recv_exactly(11) == b"220 ready\r\n"
        client.ping(b"EHLO")
