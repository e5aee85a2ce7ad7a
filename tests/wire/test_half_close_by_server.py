"""The server ends its direction first: the client reads close_notify and can go on sending; every byte still reaches the server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, digest_of, pattern
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

SIZE = 1_000_003


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """A server that says farewell at once and reads on."""
    return use(Backend(backends.half_close_first(b"farewell")))  # type: ignore[no-any-return]


def test_client_goes_on_sending(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """All of the client's bytes arrive after the server's end."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake()
        assert client.read_to_end() == (b"farewell", CLOSE_NOTIFY)
        time.sleep(0.1)  # time for a balancer that would close by itself to do so
        for piece in pattern(SIZE):
            client.send(piece)
        client.close_notify()
        backend.wait_finished()
    assert backend.last.digest.hexdigest() == digest_of(pattern(SIZE))
    assert backend.last.end == "eof"
    assert web.line(client)["termination"] == "server_close"
