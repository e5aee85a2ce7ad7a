"""The PROXY header of a front balancer: believed from the peers in `accept_proxy_protocol_from`, demanded of them, taken off
before TLS, in any pieces; bad ones end as `bad_proxy_header`, and nobody else is believed.
"""

from __future__ import annotations

import socket
import struct
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.proxied import Proxied, header_v2, proxied_backend
from tests.support.tls_client import TlsClient, client_context, connect
from tests.support.workers import PlainClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 40000 443\r\n"
ADDRESSES = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.9") + struct.pack("!HH", 40000, 443)
V2 = header_v2(ADDRESSES)
SIX = b"PROXY TCP6 2001:db8::7 2001:db8::9 40001 443\r\n"
FRONT = ["127.0.0.0/8", "unix"]


@pytest.fixture(scope="module")
def told() -> list[Proxied]:
    """What the server behind "onward" was told."""
    return []


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer],
    use: Callable[[Any], Any],
    backend: Backend,
    told: list[Proxied],
    module_folder: Path,
    pki: Pki,
) -> Balancer:
    """TLS and plain, TCP and UNIX, one that passes the header on, and one whose front balancer is somewhere else."""
    server, manner = proxied_backend()
    told.append(manner)
    use(server)

    def tls(front: Any = FRONT, **keys: Any) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, accept_proxy_protocol_from=front, **keys)

    return balancer_for(
        {
            "listeners": {
                "web": tls(),
                "brief": tls(handshake_timeout="1s"),
                "elsewhere": tls(["10.0.0.0/8", "2001:db8::/32"]),
                "onward": tls(group="proxied", proxy_protocol="v2"),
                "plain": plain_listener(accept_proxy_protocol_from=FRONT, handshake_timeout="1s"),
                "plain-elsewhere": plain_listener(accept_proxy_protocol_from="10.0.0.1"),
                "local": plain_listener(accept_proxy_protocol_from="unix", bind=f"unix:{module_folder / 'front'}"),
            },
            "server_groups": {"app": server_group(backend), "proxied": server_group(server)},
        }
    )


def fronted(port: int, context: ssl.SSLContext, *pieces: bytes) -> TlsClient:
    """A client behind a front balancer: a header goes before its ClientHello."""
    client = TlsClient(port, context)
    for piece in pieces:
        client.send_raw(piece)
    return client


@pytest.mark.parametrize(
    ("header", "client_ip", "client_port"),
    [
        (V1, "192.0.2.7", 40000),
        (V2, "192.0.2.7", 40000),
        (SIX, "2001:db8::7", 40001),
        (header_v2(ADDRESSES + b"\xe0\xff\xd0" + b"x" * 65488), "192.0.2.7", 40000),
    ],
    ids=["v1", "v2", "v6", "64 KB"],
)
def test_who_the_client_is(balancer: Balancer, pki: Pki, header: bytes, client_ip: str, client_port: int) -> None:
    """Log and list say the client's address and the proxy's; the ClientHello may stand in the same segment."""
    with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
        hello = client.first_flight()
        client.send_raw(header + hello)
        client.handshake().ping()
    line = balancer.line(client)
    assert (line["client_ip"], line["client_port"], line["proxy_ip"]) == (client_ip, client_port, "127.0.0.1")
    assert (line["termination"], line["received_bytes"], line["client_cert_proven"]) == ("client_close", 4, True)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_byte_by_byte(balancer: Balancer, mutual: ssl.SSLContext, header: bytes) -> None:
    """However it comes."""
    with fronted(balancer.port(), mutual, *(header[i : i + 1] for i in range(len(header)))) as client:
        client.handshake().ping()
    assert balancer.line(client)["client_ip"] == "192.0.2.7"


def test_plain_and_unix(balancer: Balancer, module_folder: Path) -> None:
    """Listeners without TLS, and a front balancer on a UNIX socket, which has no address to be logged."""
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.sock.sendall(V1 + b"ping")
        assert client.sock.recv(10) == b"ping"
    line = balancer.line(client)
    assert (line["client_ip"], line["received_bytes"]) == ("192.0.2.7", 4)
    mark = balancer.access.mark()
    with connect(module_folder / "front") as sock:
        sock.sendall(V2 + b"ping")
        assert sock.recv(10) == b"ping"
    line = balancer.access.wait_for(since=mark, listener="local")
    assert line["client_ip"] == "192.0.2.7"
    assert "proxy_ip" not in line


def test_passed_on(balancer: Balancer, told: list[Proxied], mutual: ssl.SSLContext) -> None:
    """The server behind gets the ends that the front balancer has told; from LOCAL, those of the connection."""
    before = len(told[0].results)
    with fronted(balancer.port("onward"), mutual, V1) as client:
        client.handshake().ping()
    result = told[0].wait(before + 1)
    assert (result.peername, result.sockname) == (("192.0.2.7", 40000), ("198.51.100.9", 443))
    with fronted(balancer.port("onward"), mutual, header_v2(command=0x20, family=0)) as client:
        client.handshake().ping()
        result = told[0].wait(before + 2)
        assert (result.peername, result.sockname) == (client.sock.getsockname(), client.sock.getpeername())


@pytest.mark.parametrize(
    "header",
    [header_v2(command=0x20, family=0), header_v2(ADDRESSES, command=0x20), header_v2(family=0), b"PROXY UNKNOWN\r\n"],
    ids=["LOCAL", "LOCAL with addresses", "UNSPEC", "UNKNOWN"],
)
def test_no_address_is_told(balancer: Balancer, mutual: ssl.SSLContext, header: bytes) -> None:
    """Then the connection's own address counts, and there is no proxy to be named."""
    with fronted(balancer.port(), mutual, header) as client:
        client.handshake().ping()
    line = balancer.line(client)
    assert line["client_ip"] == "127.0.0.1"
    assert "proxy_ip" not in line


@pytest.mark.parametrize("listener", ["web", "plain"])
@pytest.mark.parametrize("said", [b"", header_v2(command=0x20, family=0)], ids=["bare", "LOCAL"])
def test_checks_of_the_front_balancer_are_not_logged(balancer: Balancer, listener: str, said: bytes) -> None:
    """It connects, perhaps says LOCAL, and leaves. A connection after it is logged, so the log was not just late."""
    mark = balancer.access.mark()
    with connect(balancer.port(listener)) as sock:
        sock.sendall(said)
        sock.shutdown(1)
        assert sock.recv(1) == b""
    with closing(PlainClient(balancer.port(listener))) as client, suppress(ConnectionResetError):
        client.sock.sendall(b"GET / HTTP/1.1")
        client.sock.recv(1)
    balancer.line(client)
    assert len(balancer.access.find(since=mark, listener=listener)) == 1


def test_a_local_connection_that_shakes_hands_is_logged(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """Whoever has shown a certificate is in the log, with data or without."""
    with fronted(balancer.port(), mutual, header_v2(command=0x20, family=0)) as client:
        client.handshake()
    assert (line := balancer.line(client))["client_cert_proven"], line
    assert line["received_bytes"] == 0


BAD = {
    "no header": b"\x16\x03\x01\x02\x00\x01",
    "line": b"PROXY TCP4 192.0.2.7 198.51.100.9 40000\r\n",
    "endless line": b"PROXY " + b"1" * 300,
    "version": header_v2(ADDRESSES, command=0x31),
    "short": header_v2(ADDRESSES[:8]),
    "tlv": header_v2(ADDRESSES + b"\x05\xff\xffabc"),
    "checksum": header_v2(ADDRESSES + b"\x03\0\4abcd"),
}


@pytest.mark.parametrize("listener", ["web", "plain"])
@pytest.mark.parametrize("kind", BAD)
def test_bad_headers(balancer: Balancer, backend: Backend, listener: str, kind: str) -> None:
    """Closed at once, by reset; no server hears of it; the log says what was wrong."""
    seen = backend.accepted
    with closing(PlainClient(balancer.port(listener))) as client:
        client.sock.sendall(BAD[kind])
        with pytest.raises(ConnectionResetError):
            client.sock.recv(1)
    line = balancer.line(client)
    assert (line["termination"], "PROXY" in line["termination_detail"]) == ("bad_proxy_header", True)
    assert backend.accepted == seen


def test_left_within_its_header(balancer: Balancer) -> None:
    """Half a header and the end."""
    for header in (V1, V2):
        with closing(PlainClient(balancer.port())) as client:
            client.sock.sendall(header[:20])
            client.sock.shutdown(1)
            with pytest.raises(ConnectionResetError):
                client.sock.recv(1)
        assert balancer.line(client)["termination"] == "bad_proxy_header"


@pytest.mark.parametrize(("listener", "said"), [("brief", b""), ("plain", V2[:27])])
def test_the_time_for_it_is_bounded(balancer: Balancer, listener: str, said: bytes) -> None:
    """By `handshake_timeout`, also where there is no handshake."""
    with connect(balancer.port(listener)) as sock:
        sock.sendall(said)
        assert sock.recv(1) == b""
        line = balancer.line(sock)
    assert (line["termination"], line["termination_detail"]) == ("handshake_timeout", "no whole PROXY header")


def test_header_and_handshake_share_the_time(balancer: Balancer) -> None:
    """A header does not buy another `handshake_timeout`."""
    with closing(PlainClient(balancer.port("brief"))) as client:
        client.sock.sendall(V1)
        assert client.sock.recv(1) == b""
    line = balancer.line(client)
    assert line["termination"] == "handshake_timeout"
    assert line["connection_time_ms"] < 1900


def test_nobody_else_is_believed(balancer: Balancer, mutual: ssl.SSLContext) -> None:
    """A header from another peer is no TLS; on a plain listener it is the client's own bytes. Without one, all is as ever."""
    for header in (V1, V2):
        with closing(PlainClient(balancer.port("elsewhere"))) as stranger:
            stranger.sock.sendall(header)
            with pytest.raises(ConnectionResetError):
                stranger.sock.recv(1)
        line = balancer.line(stranger)
        assert (line["termination"], line["client_ip"]) == ("not_tls", "127.0.0.1")
    with connect(balancer.port("plain-elsewhere")) as sock:
        sock.sendall(V1)
        assert sock.recv(100) == V1
    with TlsClient(balancer.port("elsewhere"), mutual) as client:
        client.handshake().ping()
    assert balancer.line(client)["client_ip"] == "127.0.0.1"
