"""Records that come in odd portions: one record in many small segments, and good records in one segment with bad ones.

Slow is not hostile: a record in pieces is delivered when it is whole. What came whole before a bad record or an alert is
delivered too, whether or not both were read at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.tls_client import TLS13, Forger, TlsClient, client_context
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

FATAL_HANDSHAKE_FAILURE = b"\x02\x28"
ALERT = 21


@pytest.fixture(scope="module")
def balancer(before: Callable[..., Balancer], backend: Backend, sink: Backend) -> Balancer:
    """One listener before an echo, one before a server that only reads."""
    return before(web=backend, sink=sink)


def test_many_small_segments(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """A record of 16 KiB, 100 bytes at a time over half a second: echoed, and the client goes on."""
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping()
        client.held = True
        client.send(b"z" * 16384)
        record, client._pending = bytes(client._pending), bytearray()
        client.held = False
        for start in range(0, len(record), 100):
            client.send_raw(record[start : start + 100])
            time.sleep(0.003)  # time is the behaviour
        assert client.recv_exactly(16384, 5) == b"z" * 16384
        client.ping(b"after")
    assert balancer.line(client)["termination"] == "client_close"


def test_data_and_bad_record(balancer: Balancer, sink: Backend, pki: Pki, tmp_path: Path) -> None:
    """In one segment: the data arrives, then `protocol_error`, and the detail is what OpenSSL found wrong."""
    client, forge = forger(balancer, sink, pki, tmp_path / "keys")
    bad = bytearray(forge.record(b"good") + forge.record(b"bad"))
    bad[-1] ^= 1
    client.sock.send(bad)
    line = balancer.line(client)
    client.abort()
    assert line["termination"] == "protocol_error"
    assert "bad record mac" in line["termination_detail"]
    arrives(sink, b"good")


def test_data_and_fatal_alert(balancer: Balancer, sink: Backend, pki: Pki, tmp_path: Path) -> None:
    """In one segment: the data arrives, then `client_alert`."""
    client, forge = forger(balancer, sink, pki, tmp_path / "keys")
    client.sock.send(forge.record(b"good") + forge.record(FATAL_HANDSHAKE_FAILURE, ALERT))
    line = balancer.line(client)
    client.abort()
    assert line["termination"] == "client_alert"
    arrives(sink, b"good")


def forger(balancer: Balancer, sink: Backend, pki: Pki, keylog: Path) -> tuple[TlsClient, Forger]:
    """A connected client whose further records are forged; its server has seen no other."""
    sink.forget()
    client = TlsClient(balancer.port("sink"), client_context(pki.root.path, TLS13, pki.client, keylog=keylog))
    client.handshake()
    sink.wait_accepted(1)
    return client, Forger(client, keylog)


def arrives(sink: Backend, data: bytes) -> None:
    """The server got this and nothing else."""
    sink.wait_finished()
    wait_until(
        lambda: bytes(sink.last.data) == data, lambda: f"{data!r} at the server, got {bytes(sink.last.data)!r}", 2
    )
