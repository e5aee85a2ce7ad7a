"""100 MB in each direction at the same time through one connection: both ends compare SHA-256 of what was sent and received."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, digest_of, pattern
from tests.support.balancer import Balancer
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


SIZE = 100 * 1000 * 1000


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """A server that sends and receives at once."""
    return use(Backend(backends.duplex(SIZE, seed=2)))  # type: ignore[no-any-return]


def test_bytes_are_exact(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Not one byte more, less or different."""
    got = hashlib.sha256()
    with TlsClient(web.port(), mutual) as client:
        client.handshake().exchange(pattern(SIZE), got)
        assert client.end == CLOSE_NOTIFY
    backend.wait_finished()
    assert got.hexdigest() == digest_of(pattern(SIZE, seed=2))
    assert backend.last.received == SIZE
    assert backend.last.digest.hexdigest() == digest_of(pattern(SIZE))
    line = web.line(client)
    assert (line["received_bytes"], line["sent_bytes"]) == (SIZE, SIZE)
