"""Something else than TLS on a TLS port: logged `not_tls`, closed at once, nothing sent to a server, the neighbours unharmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.tls_client import TlsClient, connect

if TYPE_CHECKING:
    from tests.support.backends import Backend
    from tests.support.balancer import Balancer

OTHERS = {
    "http": b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": b"\x00" * 64,
    "proxy": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "long": b"A" * 300_000,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_not_tls(web: Balancer, backend: Backend, neighbour: TlsClient, kind: str) -> None:
    """The client is told nothing in its own protocol: at most a TLS alert."""
    with connect(web.port()) as sock:
        answer = b""
        try:
            sock.sendall(OTHERS[kind])
            while piece := sock.recv(1000):
                answer += piece
        except ConnectionError:
            pass
        assert answer == b"" or (answer[0], len(answer)) == (21, 7)
        assert web.line(sock)["termination"] == "not_tls"
    neighbour.ping()
    assert backend.accepted == 1
