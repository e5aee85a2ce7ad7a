"""KeyUpdate messages: a few are served like any client's, a flood ends its connection (`protocol_error`) and delays nobody.

The records are forged from the logged traffic secret, because no client library sends them in bulk.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.tls_client import TLS13, Ended, Forger, TlsClient, client_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

FLOODS = 12
UPDATES = 2400  # about 64 KB of records, 0.1 s of work if they were all obeyed


def forger(web: Balancer, pki: Pki, keylog: Path) -> tuple[TlsClient, Forger]:
    """A connected client whose further records are forged; end it with `abort`."""
    client = TlsClient(web.port(), client_context(pki.root.path, TLS13, pki.client, keylog=keylog))
    client.handshake()
    return client, Forger(client, keylog)


def test_a_few_are_fine(web: Balancer, pki: Pki, tmp_path: Path) -> None:
    """Data before, between and after; the other side's update, when asked for, is understood too."""
    client, forge = forger(web, pki, tmp_path / "keys")
    for number in range(10):
        client.send_raw(forge.record(b"data%d" % number) + forge.key_update(request=number % 2 == 0))
        assert client.recv_exactly(5) == b"data%d" % number
    client.abort()
    assert web.line(client)["termination"] == "client_reset"


def test_flood_delays_nobody(web: Balancer, pki: Pki, tmp_path: Path, neighbour: TlsClient) -> None:
    """A dozen floods at once: each ends with its word, and the neighbour's answers come as before."""
    floods = []
    for number in range(FLOODS):
        client, forge = forger(web, pki, tmp_path / f"keys{number}")
        floods.append((client, b"".join(forge.key_update(request=number % 4 == 0) for _ in range(UPDATES))))
    quiet = max(neighbour.ping() for _ in range(50))
    for client, flood in floods:
        client.sock.send(flood)
    worst = max(neighbour.ping() for _ in range(200))
    assert worst < max(0.3, 5 * quiet), f"a neighbour waits {worst:.3f} s, {quiet:.3f} s before"
    for client, _ in floods:
        with contextlib.suppress(Ended, OSError):
            assert client.recv() == b""
        assert web.line(client)["termination"] == "protocol_error"
        client.abort()


def test_slow_flood_ends_too(web: Balancer, pki: Pki, tmp_path: Path) -> None:
    """More than 100 in a second, in small pieces, without data between them."""
    client, forge = forger(web, pki, tmp_path / "keys")
    for _ in range(60):
        client.sock.send(b"".join(forge.key_update() for _ in range(5)))
        if web.access.find(client_port=client.port):
            break
    assert web.line(client)["termination"] == "protocol_error"
    client.abort()


def test_bad_record_after_the_handshake(web: Balancer, pki: Pki, tmp_path: Path) -> None:
    """A record that does not decrypt ends the connection, and what came before it has arrived."""
    client, forge = forger(web, pki, tmp_path / "keys")
    bad = bytearray(forge.record(b"good") + forge.record(b"bad"))
    bad[-1] ^= 1
    client.send_raw(bytes(bad))
    got = b""
    try:
        while piece := client.recv():
            got += piece
    except (Ended, OSError):
        pass
    assert got in {b"", b"good"}
    assert web.line(client)["termination"] == "protocol_error"
    client.abort()
