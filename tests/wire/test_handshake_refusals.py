"""Handshakes that fail before any client certificate: each with its own word in the log, nothing at a server, a neighbour unharmed."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.backends import Backend
    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def web(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """Listeners that are strict in different ways."""

    def listener(**keys: Any) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, **keys)

    return balancer_for(
        {
            "listeners": {
                "web": listener(),
                "only12": listener(security_policy="tls_cipher_policy_1_2_strict"),
                "strict_sni": listener(strict_sni=True),
                "h2": listener(alpn_policy="HTTP2Only"),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.fixture(autouse=True)
def nobody_else_is_harmed(neighbour: TlsClient, backend: Backend) -> Iterator[None]:
    """A neighbour works before and after, and is the only one that a server has seen."""
    yield
    assert neighbour.end is None
    assert backend.accepted == 1


def refused(balancer: Balancer, client: TlsClient) -> tuple[str, str]:
    """Try; the alert and the logged word."""
    alert = refusal(client)
    return alert, balancer.line(client)["termination"]


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"])
def test_no_shared_cipher(web: Balancer, pki: Pki, cipher: str) -> None:
    """A suite outside the policy, one for another kind of key, one without forward secrecy."""
    context = client_context(pki.root.path, TLS12, pki.client, ciphers=cipher)
    assert refused(web, TlsClient(web.port(), context)) == ("SSLV3_ALERT_HANDSHAKE_FAILURE", "no_shared_cipher")


@pytest.mark.parametrize("old", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_version_too_old(web: Balancer, pki: Pki, old: ssl.TLSVersion) -> None:
    """TLS 1.0 and 1.1."""
    context = client_context(pki.root.path, old, pki.client)
    assert refused(web, TlsClient(web.port(), context)) == ("TLSV1_ALERT_PROTOCOL_VERSION", "unsupported_version")


def test_version_too_new(web: Balancer, pki: Pki) -> None:
    """Only TLS 1.3 where only 1.2 is spoken."""
    context = client_context(pki.root.path, TLS13, pki.client)
    alert, word = refused(web, TlsClient(web.port("only12"), context))
    assert (alert, word) == ("TLSV1_ALERT_PROTOCOL_VERSION", "unsupported_version")


def test_unknown_name(web: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A name no certificate covers, with strict_sni."""
    context = client_context(None, version, pki.client)
    alert, word = refused(web, TlsClient(web.port("strict_sni"), context, server_name="unknown.example.net"))
    assert (alert, word) == ("TLSV1_UNRECOGNIZED_NAME", "unknown_name")


def test_no_alpn(web: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """No protocol in common."""
    context = client_context(pki.root.path, version, pki.client, alpn=["http/1.1"])
    alert, word = refused(web, TlsClient(web.port("h2"), context))
    assert word == "no_alpn"
    assert "ALERT" in alert


def test_client_alert(web: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """The client does not trust the balancer and says so."""
    client = TlsClient(web.port(), client_context(pki.other.path, version, pki.client))
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake()
    client.close()
    line = web.line(client)
    assert line["termination"] == "client_alert"
    assert "unknown" in line["termination_detail"].replace("_", " ").lower()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # a ClientHello of one byte
        b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00",  # a ServerHelloDone
        b"\x16\x03\x01\xff\xff" + b"\x00" * 64,  # a record that is too long
        b"\x15\x03\x01\x00\x02\x05\x05",  # an alert that does not exist
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 505,  # a hello whose lengths are nonsense
    ],
    ids=["short_hello", "wrong_message", "huge_record", "odd_alert", "nonsense"],
)
def test_broken_hello(web: Balancer, pki: Pki, garbage: bytes) -> None:
    """What looks like TLS and is none: `handshake_error` (or `client_alert` / `not_tls` where it is an alert or no record)."""
    client = TlsClient(web.port(), client_context(pki.root.path))
    client.send_raw(garbage)
    with contextlib.suppress(OSError):  # closed already
        client.fin()
    assert client_end(client) in {"alert", "eof", "reset"}
    word = web.line(client)["termination"]
    first_is_handshake = garbage[0] == 0x16 and garbage[3:5] != b"\xff\xff"
    assert word == "handshake_error" if first_is_handshake else word in {"handshake_error", "client_alert", "not_tls"}


def test_garbage_after_the_hello(web: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A good hello, then records that cannot be what comes next."""
    client = TlsClient(web.port(), client_context(pki.root.path, version, pki.client))
    client.stop_before_last_flight()
    client._pending.clear()
    client.release()
    client.send_raw(b"\x16\x03\x03\x00\x04\xff\x00\x00\x00" * 3)
    client_end(client)
    assert web.line(client)["termination"] == "handshake_error"


def test_client_leaves_half_way(web: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Gone before the handshake is over: `handshake_error` with a detail."""
    client = TlsClient(web.port(), client_context(pki.root.path, version, pki.client))
    client.stop_before_last_flight()
    client.sock.close()
    line = web.line(client)
    assert line["termination"] == "handshake_error"
    assert line["termination_detail"]


def client_end(client: TlsClient) -> str:
    """How the other side ends; the client is closed."""
    client.sock.settimeout(10)
    first = b""
    try:
        while piece := client.sock.recv(65536):
            first = first or piece
    except ConnectionError:
        return "reset"
    finally:
        client.sock.close()
    return "alert" if first[:1] == b"\x15" else "eof"
