"""A server answers and closes while the client is busy: however late the client begins to read, every byte is still there.

The clients start to read after longer than any grace for a closing connection could be. Some have ended their own direction
before (close_notify after the request), which is no reason to hurry them.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Seen, digest_of, pattern
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TLS12, TLS13, TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.certs import Pki

SIZE = 3 << 20
BUSY = 3.0  # time is the behaviour


def answer(seen: Seen) -> None:
    """Wait for the request, answer and close."""
    seen.recv()
    for piece in pattern(SIZE):
        seen.send(piece)


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], pki: Pki) -> Balancer:
    """One listener before that server."""
    return balancer_for(
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
            "server_groups": {"app": server_group(use(Backend(answer)))},
        }
    )


def test_slow_reader_gets_everything(balancer: Balancer, pki: Pki) -> None:
    """All bytes, then close_notify, then end of file; on both TLS versions, the client's own close_notify early or late."""
    with ExitStack() as stack:
        clients = []
        for version in (TLS12, TLS13):
            for ends_first in (True, False):
                client = TlsClient(balancer.port(), client_context(pki.root.path, version, pki.client))
                stack.enter_context(client).handshake().send(b"GET")
                if ends_first:
                    client.close_notify()
                clients.append((client, f"{version.name}, close_notify {'first' if ends_first else 'last'}"))
        time.sleep(BUSY)
        for client, which in clients:
            data, end = client.read_to_end()
            assert (len(data), end) == (SIZE, CLOSE_NOTIFY), which
            assert hashlib.sha256(data).hexdigest() == digest_of(pattern(SIZE)), which
            client.close_notify()  # again, or for the first time: now both directions have ended
            client.sock.settimeout(5)
            assert client.sock.recv(1) == b"", which
    for client, which in clients:
        line = balancer.line(client)
        assert line["termination"] in {"client_close", "server_close"}, which
        assert line["sent_bytes"] == SIZE, which
