"""UNIX sockets on either side: `bind = "unix:PATH"` and `address = "unix:PATH"`, with TLS and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, digest_of, pattern
from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import CLOSE_NOTIFY, TlsClient, client_context, connect, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def server(use: Callable[[Any], Any], module_folder: Path) -> Backend:
    """An echo server on a UNIX socket."""
    return use(Backend(path=module_folder / "server"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], server: Backend, module_folder: Path, pki: Pki) -> Balancer:
    """TLS and plain listeners on UNIX sockets, and TLS on TCP before the UNIX server."""
    return balancer_for(
        {
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path),
                "local": tls_listener(pki.server, ca=pki.root.path, bind=f"unix:{module_folder / 'tls'}"),
                "plain": plain_listener(bind=f"unix:{module_folder / 'plain'}"),
            },
            "server_groups": {"app": server_group(server)},
        }
    )


def test_server(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """TCP to UNIX; the log names the server by its address."""
    with TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping(b"x" * 1_000_000)
        client.close_notify()
        assert client.read_to_end() == (b"", CLOSE_NOTIFY)
    assert balancer.line(client)["server"].startswith("unix:")


def test_listener(balancer: Balancer, module_folder: Path, pki: Pki, mutual: ssl.SSLContext) -> None:
    """UNIX to UNIX over TLS: served with a certificate, refused without; lines without a client address."""
    mark = balancer.access.mark()
    with TlsClient(module_folder / "tls", mutual) as client:
        client.handshake().ping(b"x" * 1_000_000)
    line = balancer.access.wait_for(since=mark, listener="local")
    assert line["termination"] == "client_close"
    assert "client_port" not in line
    mark = balancer.access.mark()
    assert "ALERT" in refusal(TlsClient(module_folder / "tls", client_context(pki.root.path)))
    assert balancer.access.wait_for(since=mark, listener="local")["termination"] == "no_certificate"


def test_plain_listener(balancer: Balancer, server: Backend, module_folder: Path) -> None:
    """UNIX to UNIX as they are."""
    server.forget()
    data = b"".join(pattern(300_000))
    with connect(module_folder / "plain") as sock:
        got = b""
        for start in range(0, len(data), 10_000):
            sock.sendall(data[start : start + 10_000])
            while len(got) < start + 10_000:
                got += sock.recv(65536)
        sock.shutdown(1)
        assert sock.recv(1) == b""
    assert got == data
    server.wait_finished()
    assert server.last.digest.hexdigest() == digest_of(pattern(300_000))
