"""Client and server end at the same moment, many times: both see a proper end, and one of the two words is logged."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Seen
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

ROUNDS = 30


class Meeting(Backend):
    """A server that echoes one message, then meets the client at a barrier and ends."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=10)
        super().__init__(self._meet)

    def _meet(self, seen: Seen) -> None:
        seen.send(seen.recv())
        self.barrier.wait()


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    """The meeting server."""
    return use(Meeting())  # type: ignore[no-any-return]


def test_both_close_at_once(web: Balancer, backend: Backend, mutual: ssl.SSLContext) -> None:
    """Whoever wins."""
    assert isinstance(backend, Meeting)
    for _ in range(ROUNDS):
        with TlsClient(web.port(), mutual) as client:
            client.handshake().ping()
            backend.barrier.wait()
            client.close_notify()
            assert client.read_to_end() == (b"", CLOSE_NOTIFY)
        assert web.line(client)["termination"] in {"client_close", "server_close"}
