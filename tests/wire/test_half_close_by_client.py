"""The client ends its direction with close_notify and keeps reading: the server sees the end, and its answer, made only then, arrives."""

from __future__ import annotations

import hashlib
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
    """A server that answers only after the end of what it is sent."""
    return use(Backend(backends.digest_then_close))  # type: ignore[no-any-return]


@pytest.mark.parametrize("with_fin", [False, True], ids=["close_notify", "close_notify_and_fin"])
def test_answer_after_half_close(web: Balancer, mutual: ssl.SSLContext, with_fin: bool) -> None:
    """The digest of all that was sent comes back, then a proper end; with the client's FIN or without it."""
    with TlsClient(web.port(), mutual) as client:
        client.handshake()
        digest = hashlib.sha256()
        for piece in pattern(SIZE):
            client.send(piece)
            digest.update(piece)
        client.close_notify()
        if with_fin:
            client.fin()
        assert client.read_to_end() == (digest.hexdigest().encode(), CLOSE_NOTIFY)
    assert digest.hexdigest() == digest_of(pattern(SIZE))
    assert web.line(client)["termination"] == "client_close"
