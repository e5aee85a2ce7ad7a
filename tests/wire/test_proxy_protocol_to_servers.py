"""The PROXY header that servers get: who the client is, in version 1 and 2, over every kind of socket, and nothing of it is
counted as the client's bytes. Read by a parser that is not ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Refusing, greet
from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.proxied import Proxied, proxied_backend
from tests.support.tls_client import TlsClient, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def headers() -> dict[str, Proxied]:
    """What the servers were told, by group."""
    return {}


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer],
    use: Callable[[Any], Any],
    headers: dict[str, Proxied],
    module_folder: Path,
    pki: Pki,
) -> Balancer:
    """A listener of each kind, each before a server of its own."""
    groups = {}

    def server(name: str, *others: Any, **options: Any) -> str:
        backend, headers[name] = proxied_backend(**options)
        groups[name] = server_group(*others, use(backend))
        return name

    def plain(name: str, version: str, **options: Any) -> dict[str, object]:
        return plain_listener(group=server(name, **options), proxy_protocol=version)

    listeners = {
        "v1": plain("v1", "v1"),
        "v2": plain("v2", "v2"),
        "six": plain("six", "v1") | {"bind": f"[::1]:{free_port()}"},
        "greeting": plain("greeting", "v2", serve=greet(b"220 hello\r\n")),
        "local": plain("local", "v2") | {"bind": f"unix:{module_folder / 'listener'}"},
        "local-v1": plain("local-v1", "v1") | {"bind": f"unix:{module_folder / 'listener-v1'}"},
        "to-unix": plain("to-unix", "v2", path=module_folder / "server"),
        "retried": plain_listener(group=server("retried", use(Refusing())), proxy_protocol="v2"),
        "tls": tls_listener(pki.server, ca=pki.root.path, group=server("tls"), proxy_protocol="v2"),
    }
    return balancer_for({"listeners": listeners, "server_groups": groups})


@pytest.mark.parametrize("listener", ["v1", "v2", "to-unix"])
def test_who_the_client_is(balancer: Balancer, headers: dict[str, Proxied], listener: str) -> None:
    """Both ends of the client's connection; the log's byte counts are the client's."""
    with connect(balancer.port(listener)) as sock:
        sock.sendall(b"ping")
        assert sock.recv(10) == b"ping"
        told = headers[listener].wait(1)
        assert (told.peername, told.sockname) == (sock.getsockname(), sock.getpeername())
        sock.shutdown(1)
        line = balancer.line(sock)
    assert (line["received_bytes"], line["sent_bytes"]) == (4, 4)
    assert headers[listener].raw[0][:5] == (b"PROXY" if listener == "v1" else b"\r\n\r\n\0")
    assert listener != "v2" or len(headers[listener].raw[0]) == 28, "addresses and nothing else"


def test_ipv6(balancer: Balancer, headers: dict[str, Proxied]) -> None:
    """The client's family, whatever that of the server."""
    with connect(("::1", balancer.port("six"))) as sock:
        told = headers["six"].wait(1)
        assert (told.peername[:2], told.sockname[:2]) == (sock.getsockname()[:2], sock.getpeername()[:2])
    assert headers["six"].raw[0].startswith(b"PROXY TCP6 ::1 ::1 ")


def test_a_server_that_speaks_first_gets_it_at_once(balancer: Balancer, headers: dict[str, Proxied]) -> None:
    """It greets behind the header, before the client has said anything."""
    with connect(balancer.port("greeting")) as sock:
        assert sock.recv(100) == b"220 hello\r\n"
        assert headers["greeting"].wait(1).peername == sock.getsockname()


def test_a_client_of_a_unix_socket(balancer: Balancer, headers: dict[str, Proxied], module_folder: Path) -> None:
    """Version 2 says where it connected to; version 1 has no word for it."""
    for name, listener in (("local", "listener"), ("local-v1", "listener-v1")):
        with connect(module_folder / listener) as sock:
            sock.sendall(b"ping")
            assert sock.recv(10) == b"ping"
        headers[name].wait(1)
    assert headers["local"].results[0].sockname == str(module_folder / "listener")
    assert headers["local"].results[0].peername == ""
    assert headers["local-v1"].raw == [b"PROXY UNKNOWN\r\n"]


def test_another_server_gets_a_header_too(balancer: Balancer, headers: dict[str, Proxied]) -> None:
    """The first one refuses half of the connections; each ends at the other, with one header."""
    for number in (1, 2):
        with connect(balancer.port("retried")) as sock:
            sock.sendall(b"ping")
            assert sock.recv(10) == b"ping"
            assert headers["retried"].wait(number).peername == sock.getsockname()
            sock.shutdown(1)
            assert balancer.line(sock)["received_bytes"] == 4
    assert len(headers["retried"].raw) == 2


def test_with_tls(balancer: Balancer, headers: dict[str, Proxied], mutual: ssl.SSLContext) -> None:
    """Addresses only, unless more is asked for."""
    before = len(headers["tls"].results)
    with TlsClient(balancer.port("tls"), mutual) as client:
        client.handshake().ping()
        told = headers["tls"].wait(before + 1)
        assert told.peername == client.sock.getsockname()
    assert len(headers["tls"].raw[-1]) == 28
    assert balancer.line(client)["received_bytes"] == 4
