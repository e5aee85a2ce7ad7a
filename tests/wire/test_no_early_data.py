"""Nothing is taken from a client before it is known who it is: sessions allow no early data, what is sent as such ends the
handshake, and an offer to authenticate later (TLS 1.3) changes nothing.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import need
from tests.support.tls_client import TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki


def test_sessions_allow_none(web: Balancer, pki: Pki) -> None:
    """As `openssl s_client` reads the ticket that comes with the first answer."""
    command = [
        need("openssl"), "s_client", "-connect", f"127.0.0.1:{web.port()}", "-tls1_3", "-CAfile", str(pki.root.path),
        "-cert", str(pki.client.path), "-key", str(pki.client.key_path),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        tickets = (line for line in process.stdout if b"Max Early Data:" in line)  # the end of the output ends it too
        assert next(tickets, b"").split() == [b"Max", b"Early", b"Data:", b"0"]
        process.stdin.close()


@pytest.mark.parametrize("kind", [20, 22, 23])
def test_records_behind_the_hello(web: Balancer, backend: Backend, pki: Pki, kind: int) -> None:
    """Of change_cipher_spec that is none, of a handshake message and of data."""
    backend.forget()
    client = TlsClient(web.port(), client_context(None, TLS13, pki.client))
    client.send_raw(client.first_flight() + bytes([kind]) + b"\x03\x03\x00\x20" + bytes(32))
    refusal(client)
    assert web.line(client)["termination"] == "handshake_error"
    assert backend.accepted == 0


def test_who_would_authenticate_later_has_to_now(web: Balancer, backend: Backend, pki: Pki) -> None:
    backend.forget()
    context = client_context(None, TLS13)
    context.post_handshake_auth = True
    client = TlsClient(web.port(), context)
    refusal(client)
    assert web.line(client)["termination"] == "no_certificate"
    assert backend.accepted == 0
