"""What servers are told of TLS (`proxy_protocol_tls`): the truth of every connection, on TLS 1.2 and 1.3, full and resumed, and
no more bytes than the header says. Read by a parser that is not ours.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.admin import wait_scrape
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import CLIENT
from tests.support.ports import free_port
from tests.support.proxied import Proxied, proxied_backend
from tests.support.tls_client import VERSION_NAMES, TlsClient, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Issued, Pki

CERTIFICATE = 0x28
"""PP2_SUBTYPE_SSL_CLIENT_CERT, which the parser does not know."""
LEFT_OUT = "nlb_proxy_protocol_certificates_left_out_total"


@pytest.fixture(scope="module")
def headers() -> list[Proxied]:
    """What the server was told."""
    return []


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], headers: list[Proxied], pki: Pki
) -> Balancer:
    """One listener for each thing to tell, all before one server."""
    server, manner = proxied_backend()
    headers.append(manner)
    use(server)

    def tls(*certificates: Issued, mode: str = "required", told: str = "tls", **keys: Any) -> dict[str, object]:
        return tls_listener(
            *(certificates or (pki.server,)),
            **{"ca": pki.root.path, "client_auth": {"mode": mode}, **keys},
            proxy_protocol="v2",
            proxy_protocol_tls=told,
            alpn_policy="HTTP2Preferred",
        )

    return balancer_for(
        {
            "node": {"name": "front-7", "admin": f"127.0.0.1:{free_port()}"},
            "listeners": {
                "tls": tls(),
                "full": tls(told="full"),
                "short": tls(told="full", proxy_protocol_max_header=1024),
                "optional": tls(mode="optional"),
                "report": tls(mode="report"),
                "off": tls(ca=None),
                "rsa": tls(pki.root.server("www.example.com", key="rsa-2048")),
            },
            "server_groups": {"app": server_group(server)},
        }
    )


def tlv_of(headers: list[Proxied], client: TlsClient) -> Any:
    """What was told of a client that has had an answer, the last one of its port; the header's length is that of its bytes."""
    for raw, result in reversed(list(zip(headers[0].raw, headers[0].results, strict=True))):
        if result.peername[1] == client.port:
            assert len(raw) == 16 + struct.unpack("!H", raw[14:16])[0]
            return result.tlv
    raise AssertionError(f"nothing was told of {client.port}")


def visit(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> TlsClient:
    with TlsClient(port, context, session=session) as client:
        client.handshake().ping()
    return client


def test_all_that_is_told(balancer: Balancer, headers: list[Proxied], pki: Pki, version: ssl.TLSVersion) -> None:
    """As the log has it, and the same on a resumed connection, but for who has shown a certificate when."""
    context = client_context(pki.root.path, version, pki.client, alpn=["h2", "http/1.1"])
    first = visit(balancer.port("tls"), context)
    second = visit(balancer.port("tls"), context, first.session)
    assert second.resumed
    for client in (first, second):
        tlv, line = tlv_of(headers, client), balancer.line(client)
        assert (tlv.alpn, tlv.authority) == (b"h2", "www.example.com")
        assert tlv.unique_id.decode() == f"front-7/{line['connection']}"
        assert (tlv.ssl.has_ssl, tlv.ssl.has_cert_sess, tlv.ssl.verify) == (True, True, 0)
        assert tlv.ssl.has_cert_conn is not client.resumed
        assert (tlv.ssl.version, tlv.ssl.cipher) == (VERSION_NAMES[version], line["tls_cipher_suite"])
        assert tlv.ssl.cn == pki.client.common_name
        assert (tlv.ssl.sig_alg, tlv.ssl.key_alg) == ("ecdsa-with-SHA256", "EC256")
        assert CERTIFICATE not in tlv.ssl


def test_full_has_the_certificate(
    balancer: Balancer, headers: list[Proxied], pki: Pki, version: ssl.TLSVersion
) -> None:
    """Its DER, on full and resumed connections."""
    context = client_context(pki.root.path, version, pki.client)
    first = visit(balancer.port("full"), context)
    for client in (first, visit(balancer.port("full"), context, first.session)):
        assert tlv_of(headers, client).ssl[CERTIFICATE] == pki.client.der


def test_a_certificate_without_room_is_left_out_and_counted(
    balancer: Balancer, headers: list[Proxied], pki: Pki
) -> None:
    """All else is told, in a header within its limit."""
    names = [f"dns-{number}.a-rather-long-name.example" for number in range(40)]
    large = pki.root.issue("large", usages=(CLIENT,), names=names)
    assert len(large.der) > 1024
    client = visit(balancer.port("short"), client_context(pki.root.path, None, large))
    tlv = tlv_of(headers, client)
    assert (tlv.ssl.cn, CERTIFICATE in tlv.ssl) == ("large", False)
    admin = int(balancer.ask("status")["admin"].rpartition(":")[2])
    found = wait_scrape(admin, lambda found: found(LEFT_OUT, listener="short") == 1, "it is counted")
    assert found(LEFT_OUT, listener="full") == 0


@pytest.mark.parametrize("listener", ["off", "optional", "report"])
def test_nobody_is_verified_without_a_certificate(
    balancer: Balancer, headers: list[Proxied], pki: Pki, listener: str
) -> None:
    """TLS and no certificate: `verify` is not zero, which would say that one was good."""
    tlv = tlv_of(headers, visit(balancer.port(listener), client_context(pki.root.path)))
    assert (tlv.ssl.client, tlv.ssl.verified, tlv.ssl.cn) == (1, False, None)


def test_nobody_is_verified_whom_report_has_let_in(balancer: Balancer, headers: list[Proxied], pki: Pki) -> None:
    """A client that would be refused: it has shown a certificate, and `verify` says what is wrong with it. A good one is good."""
    for client, good in ((pki.bad_client("unknown_ca"), False), (pki.client, True)):
        context = client_context(pki.root.path, None, client)
        first = visit(balancer.port("report"), context)
        for one in (first, visit(balancer.port("report"), context, first.session)):
            tlv = tlv_of(headers, one)
            assert (tlv.ssl.has_cert_sess, tlv.ssl.verified) == (True, good), (client.common_name, one.resumed)


def test_of_an_rsa_certificate(balancer: Balancer, headers: list[Proxied], pki: Pki) -> None:
    """As HAProxy spells it: the authority's signature, the server's key."""
    tlv = tlv_of(headers, visit(balancer.port("rsa"), client_context(pki.root.path, None, pki.client)))
    assert (tlv.ssl.sig_alg, tlv.ssl.key_alg) == ("ecdsa-with-SHA256", "RSA2048")


def test_a_name_that_reads_in_two_ways_is_not_told(balancer: Balancer, headers: list[Proxied], pki: Pki) -> None:
    """Two common names: the certificate is good, and no name is made of it. (One with a zero byte in it is never a client.)"""
    odd = [[x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names] for names in (("user", "admin"), ())]
    for number, attributes in enumerate(odd):
        client = pki.root.issue(f"odd-{number}", subject=x509.Name(attributes), names=["odd.example"])
        tlv = tlv_of(headers, visit(balancer.port("full"), client_context(pki.root.path, None, client)))
        assert (tlv.ssl.verify, tlv.ssl.cn, tlv.ssl[CERTIFICATE]) == (0, None, client.der)


def test_no_server_name(balancer: Balancer, headers: list[Proxied], pki: Pki) -> None:
    """Then there is no authority, and without ALPN no protocol."""
    context = client_context(None, None, pki.client)
    with TlsClient(balancer.port("tls"), context, server_name=None) as client:
        client.handshake().ping()
    tlv = tlv_of(headers, client)
    assert (tlv.authority, tlv.alpn) == (None, None)
