"""The PROXY protocol with HAProxy and nginx: as servers that demand our header, and HAProxy before us, checks included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import Scrape, wait_scrape
from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.haproxy import Haproxy
from tests.support.nginx import Nginx
from tests.support.ports import free_port
from tests.support.tls_client import TlsClient, client_context, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

SENDERS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "cn": "send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id,authority",
}
RECEIVER = """\
frontend receiver
  mode http
  bind 127.0.0.1:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string \
"%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]"
"""
SENDER = """\
frontend {name}-front
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o\\ %ci:%cp_%pid
  default_backend {name}
backend {name}
  server nlb 127.0.0.1:{to} {options} check inter 100ms
"""
REQUEST = b"GET / HTTP/1.0\r\nHost: www.example.com\r\n\r\n"
NGINX_SAYS = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"


@pytest.fixture(scope="module")
def haproxy(use: Callable[[Any], Any], module_folder: Path) -> Haproxy:
    """HAProxy that demands a header and says what it reads."""
    port = free_port()
    return use(Haproxy(module_folder / "receiver", RECEIVER.format(port=port), port))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def nginx(use: Callable[[Any], Any], module_folder: Path) -> Nginx:
    """The same of nginx."""
    return use(Nginx(module_folder / "nginx", NGINX_SAYS, listen="proxy_protocol"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], haproxy: Haproxy, nginx: Nginx, backend: Backend, pki: Pki
) -> Balancer:
    """Listeners that send to them, with health checks of theirs, and two that HAProxy may stand before."""
    checked = {"enabled": True, "interval": "1s"}
    return balancer_for(
        {
            "node": {"admin": f"127.0.0.1:{free_port()}"},
            "listeners": {
                "haproxy-v1": plain_listener(group="haproxy-v1", proxy_protocol="v1"),
                "haproxy-tls": tls_listener(
                    pki.server, ca=pki.root.path, group="haproxy", proxy_protocol="v2", proxy_protocol_tls="full"
                ),
                "nginx-v1": plain_listener(group="nginx-v1", proxy_protocol="v1"),
                "nginx-v2": plain_listener(group="nginx", proxy_protocol="v2"),
                "web": tls_listener(pki.server, ca=pki.root.path, accept_proxy_protocol_from="127.0.0.1"),
                "plain": plain_listener(accept_proxy_protocol_from="127.0.0.1"),
            },
            "server_groups": {
                "haproxy-v1": server_group({"address": haproxy.address}, health_check=checked),
                "haproxy": server_group({"address": haproxy.address}, health_check=checked),
                "nginx-v1": server_group({"address": nginx.address}, health_check=checked),
                "nginx": server_group({"address": nginx.address}, health_check=checked),
                "app": server_group(backend),
            },
        }
    )


def body(sock: Any) -> list[str]:
    """What the server says to a request."""
    answer = b""
    while piece := sock.recv(65536):
        answer += piece
    head, _, said = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], answer
    return said.decode().split()


@pytest.mark.parametrize("listener", ["haproxy-v1", "nginx-v1", "nginx-v2"])
def test_they_read_our_header(balancer: Balancer, listener: str) -> None:
    """Both ends of the client's connection."""
    with connect(balancer.port(listener)) as sock:
        sock.sendall(REQUEST)
        here, there = sock.getsockname(), sock.getpeername()
        assert body(sock)[:4] == [here[0], str(here[1]), there[0], str(there[1])]


def test_haproxy_reads_what_tls_knows(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Ends, server name and unique id, with the client's certificate behind them."""
    with TlsClient(balancer.port("haproxy-tls"), client_context(pki.root.path, version, pki.client)) as client:
        client.handshake().send(REQUEST)
        here, there = client.sock.getsockname(), client.sock.getpeername()
        said = body(client)
    line = balancer.line(client)
    assert said == [
        *(here[0], str(here[1]), there[0], str(there[1])),
        *("www.example.com", f"under-test/{line['connection']}"),
    ]


def test_health_checks_are_no_errors_to_them(balancer: Balancer, haproxy: Haproxy, nginx: Nginx) -> None:
    """They say LOCAL or UNKNOWN: the servers are available, and no log complains of a broken header."""
    for group in ("haproxy", "haproxy-v1", "nginx", "nginx-v1"):
        balancer.wait_event("server_available", group=group)
    assert "PROXY" not in haproxy.output()
    assert (nginx.folder / "error.log").read_text() == ""


@pytest.fixture(scope="module")
def before(use: Callable[[Any], Any], balancer: Balancer, module_folder: Path) -> dict[str, int]:
    """The ports of HAProxys before our listeners, by what they send and to whom."""
    ports = {f"{kind}-{to}": free_port() for kind in SENDERS for to in ("web", "plain")}
    sections = "".join(
        SENDER.format(name=name, port=port, to=balancer.port(name.split("-")[1]), options=SENDERS[name.split("-")[0]])
        for name, port in ports.items()
    )
    use(Haproxy(module_folder / "sender", sections, *ports.values()))
    return ports


@pytest.mark.parametrize("kind", SENDERS)
def test_haproxy_before_us(balancer: Balancer, before: dict[str, int], pki: Pki, kind: str) -> None:
    """The client's own address in the log, HAProxy's beside it, with TLS and without."""
    with TlsClient(before[f"{kind}-web"], client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping()
    line = balancer.access.wait_for(client_port=client.port, listener="web")
    assert (line["client_ip"], line["proxy_ip"], line["client_cert_proven"]) == ("127.0.0.1", "127.0.0.1", True)
    assert line["proxy_port"] != client.port
    with connect(before[f"{kind}-plain"]) as sock:
        sock.sendall(b"ping")
        assert sock.recv(10) == b"ping"
        port = sock.getsockname()[1]
    line = balancer.access.wait_for(client_port=port, listener="plain")
    assert (line["proxy_ip"], line["received_bytes"]) == ("127.0.0.1", 4)


def test_haproxys_checks_are_not_logged(balancer: Balancer, before: dict[str, int]) -> None:
    """It checks each listener all the time, over a header of its own: we count them, and there is no line of them."""
    assert before
    admin = int(balancer.ask("status")["admin"].rpartition(":")[2])

    def probes(found: Scrape) -> float:
        return min(
            found("nlb_terminations_total", listener=listener, termination="probe") for listener in ("web", "plain")
        )

    wait_scrape(admin, lambda found: probes(found) >= 2 * len(SENDERS), "two checks of each sender")
    assert not balancer.access.find(lambda line: line["listener"] in ("web", "plain") and "proxy_ip" not in line)
