"""The access log: what a line has for an accepted, a refused and a plain connection, and that values are right."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import VERSION_NAMES, TlsClient, client_context, connect, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

ALWAYS = {"time", "node", "worker", "generation", "connection", "listener", "client_ip", "client_port", "termination"}
TLS = {"tls_protocol_version", "tls_cipher_suite", "tls_named_group", "tls_resumed", "domain_name", "alpn"}
TLS |= {"tls_handshake_time_ms", "verify_result"}
IDENTITY = {f"client_cert_{name}" for name in ("subject", "issuer", "serial", "sha256", "not_after", "sans", "proven")}
SERVED = {"server_group", "server", "received_bytes", "sent_bytes", "connect_time_ms", "connection_time_ms"}
ALL = ALWAYS | TLS | IDENTITY | SERVED | {"termination_detail"}


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener with everything that has a field, and a plain one."""
    return balancer_for(
        {
            "node": {"name": "node-7"},
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path, alpn_policy="HTTP1Only"),
                "plain": plain_listener(),
            },
            "server_groups": {"app": server_group(backend.entry(name="echo"))},
        }
    )


def check_common(line: dict[str, Any]) -> None:
    """Only the contract's names; absent values are left out, not null; the time is now, in UTC."""
    assert set(line) <= ALL
    assert None not in line.values()
    assert set(line) >= ALWAYS
    when = dt.datetime.fromisoformat(line["time"])
    assert abs(when - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)
    assert (line["node"], line["client_ip"]) == ("node-7", "127.0.0.1")


def test_accepted(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Every field, with the client's identity proven."""
    certificate = pki.root.client("client-7", names=["client-7.corp.example", "10.1.2.3"])
    start = time.monotonic()
    context = client_context(pki.root.path, version, certificate, alpn=["http/1.1"])
    with TlsClient(balancer.port(), context) as client:
        client.handshake().ping(b"x" * 12_345)
        client.send(b"y")
        assert client.recv_exactly(1) == b"y"
    line = balancer.line(client)
    took = (time.monotonic() - start) * 1000
    check_common(line)
    assert set(line) >= ALWAYS | TLS | IDENTITY | SERVED
    assert (line["listener"], line["server_group"], line["server"]) == ("web", "app", "echo")
    assert line["client_port"] == client.port
    assert line["tls_protocol_version"] == VERSION_NAMES[version]
    cipher = client.tls.cipher()
    assert cipher is not None
    assert line["tls_cipher_suite"] == cipher[0]
    assert (line["tls_resumed"], line["domain_name"], line["alpn"]) == (False, "www.example.com", "http/1.1")
    assert (line["received_bytes"], line["sent_bytes"]) == (12_346, 12_346)
    assert (line["termination"], line["client_cert_proven"]) == ("client_close", True)
    assert "client-7" in line["client_cert_subject"]
    assert "Test Root" in line["client_cert_issuer"]
    assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
    serial = str(line["client_cert_serial"]).replace(":", "")
    assert certificate.certificate.serial_number in {int(serial, 16), int(serial) if serial.isdigit() else None}
    assert dt.datetime.fromisoformat(line["client_cert_not_after"]) == certificate.certificate.not_valid_after_utc
    assert "client-7.corp.example" in str(line["client_cert_sans"])
    assert "10.1.2.3" in str(line["client_cert_sans"])
    for name in ("tls_handshake_time_ms", "connect_time_ms", "connection_time_ms"):
        assert 0 <= line[name] <= took, name
    assert line["connection_time_ms"] >= line["tls_handshake_time_ms"]


def test_refused(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A refused client: its identity as claimed, nothing about a server, the reason with a detail."""
    certificate = pki.other.client("stranger-7", names=["stranger.example"])
    context = client_context(pki.root.path, version, certificate, alpn=["http/1.1"])
    client = TlsClient(balancer.port(), context)
    refusal(client)
    line = balancer.line(client)
    check_common(line)
    assert set(line) >= ALWAYS | IDENTITY | {"tls_protocol_version", "domain_name", "verify_result"}
    assert (line["termination"], line["client_cert_proven"]) == ("unknown_ca", False)
    assert "server" not in line
    assert "connect_time_ms" not in line
    assert "stranger-7" in line["client_cert_subject"]
    assert "Other Root" in line["client_cert_issuer"]
    assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
    assert line["verify_result"] != "ok"
    assert "Other Root" in line["termination_detail"]


def test_plain(balancer: Balancer) -> None:
    """A plain connection has nothing about TLS or certificates."""
    with connect(balancer.port("plain")) as sock:
        sock.sendall(b"x" * 100)
        assert len(sock.recv(100)) == 100
        sock.shutdown(1)
        assert sock.recv(1) == b""
        line = balancer.line(sock)
    check_common(line)
    assert set(line) >= ALWAYS | SERVED
    assert not set(line) & (TLS | IDENTITY)
    assert (line["received_bytes"], line["sent_bytes"], line["termination"]) == (100, 100, "client_close")


def test_connection_numbers_are_unique(balancer: Balancer, pki: Pki) -> None:
    """No two lines have the same connection."""
    mark = balancer.access.mark()
    for _ in range(10):
        with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client, alpn=["http/1.1"])) as client:
            client.handshake().ping()
    lines = balancer.access.wait_count(10, since=mark)
    assert len({line["connection"] for line in lines}) == len(lines) == 10


def test_hostile_names(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Quotes, line breaks, control characters and other scripts in a subject: one line of valid JSON, nothing forged."""
    nasty = 'x"}\n{"termination":"client_close","client_cert_subject":"CN=admin\\\u2028\x1b[31mé中'
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, nasty), x509.NameAttribute(NameOID.COMMON_NAME, "n")]
    )
    mark = balancer.access.mark()
    for authority, proven in ((pki.root, True), (pki.other, False)):
        certificate = authority.client(f"nasty-{version.name}", subject=subject)
        client = TlsClient(balancer.port(), client_context(pki.root.path, version, certificate, alpn=["http/1.1"]))
        if proven:
            client.handshake().ping()
            client.close()
        else:
            refusal(client)
        line = balancer.line(client)
        check_common(line)
        assert line["client_cert_proven"] is proven
        assert "中" in line["client_cert_subject"]
        assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
    assert len(balancer.access.find(since=mark)) == 2
    assert balancer.access.path.read_bytes().count(b"\n") == len(balancer.access.lines())
