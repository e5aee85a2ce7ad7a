"""The server ends first: its answer reaches the client whole, then close_notify. Logged `server_close`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

ANSWER = b"answer" * 50_000


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """A server that answers and closes."""
    return use(Backend(backends.answer_then_close(ANSWER)))  # type: ignore[no-any-return]


def test_server_closes_first(web: Balancer, mutual: ssl.SSLContext) -> None:
    """The whole answer, then a proper end."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake().send(b"question")
        data, end = client.read_to_end()
        assert (len(data), end) == (len(ANSWER), CLOSE_NOTIFY)
        assert data == ANSWER
    line = web.line(client)
    assert line["termination"] == "server_close"
    assert (line["received_bytes"], line["sent_bytes"]) == (8, len(ANSWER))
