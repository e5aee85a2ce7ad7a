"""Which server certificate a client is shown: by exact name, by wildcard, else the first; RSA or ECDSA by what the client can do."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import now
from tests.support.tls_client import TLS12, TlsClient, client_context, refusal
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

# server name -> which certificate
NAMES = {
    "www.example.com": "default",
    "exact.wild.example": "exact",
    "EXACT.Wild.Example": "exact",
    "anything.wild.example": "wildcard",
    "second.example.net": "two_names",
    "first.example.net": "two_names",
    "a.b.wild.example": "default",
    "wild.example": "default",
    "nobody.example.org": "default",
    "common-name.example": "common_name",
    None: "default",
}


@pytest.fixture(scope="module")
def certificates(pki: Pki) -> dict[str, Issued]:
    """The certificates of the listener, the default one first; the rest signed by an intermediate, so they carry a chain."""
    below = pki.intermediate
    return {
        "default": pki.server,
        "wildcard": below.server("*.wild.example"),
        "exact": below.server("exact.wild.example"),
        "two_names": below.server("first.example.net", "second.example.net"),
        "rsa": below.server("dual.example.net", key="rsa-2048"),
        "ecdsa": below.server("dual.example.net"),
        "common_name": below.issue("common-name.example", usages=()),
    }


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, certificates: dict[str, Issued]
) -> Balancer:
    """One listener with all of them."""
    listener = tls_listener(*certificates.values(), ca=pki.root.path)
    return balancer_for({"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}})


@pytest.mark.parametrize("name", NAMES)
def test_by_name(
    balancer: Balancer, pki: Pki, certificates: dict[str, Issued], version: ssl.TLSVersion, name: str | None
) -> None:
    """The certificate shown, with client authentication the same at every name."""
    with TlsClient(balancer.port(), client_context(None, version, pki.client), server_name=name) as client:
        client.handshake().ping()
        assert client.peer_der() == certificates[NAMES[name]].der
    line = balancer.line(client)
    assert line["client_cert_proven"] is True
    assert line.get("domain_name", "").lower() == (name or "").lower()


def test_chain_is_sent(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A client that trusts only the root verifies a leaf below the intermediate."""
    context = client_context(pki.root.path, version, pki.client)
    with TlsClient(balancer.port(), context, server_name="exact.wild.example") as client:
        client.handshake().ping()


def test_no_certificate_at_any_name(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """Changing the certificate does not change who is let in: without a client certificate every name refuses."""
    backend.forget()
    for name in NAMES:
        client = TlsClient(balancer.port(), client_context(None, version), server_name=name)
        assert "ALERT" in refusal(client)
    stranger = TlsClient(
        balancer.port(),
        client_context(None, version, pki.bad_client("unknown_ca")),
        server_name="anything.wild.example",
    )
    refusal(stranger)
    assert balancer.line(stranger)["termination"] == "unknown_ca"
    assert backend.accepted == 0


@pytest.mark.parametrize(
    ("kind", "cipher"), [("rsa", "ECDHE-RSA-AES128-GCM-SHA256"), ("ecdsa", "ECDHE-ECDSA-AES128-GCM-SHA256")]
)
def test_kind_of_key(balancer: Balancer, pki: Pki, certificates: dict[str, Issued], kind: str, cipher: str) -> None:
    """Both kinds for one name: the client's suites decide."""
    context = client_context(pki.root.path, TLS12, pki.client, ciphers=cipher)
    with TlsClient(balancer.port(), context, server_name="dual.example.net") as client:
        client.handshake().ping()
        assert client.peer_der() == certificates[kind].der


# -- time ----------------------------------------------------------------------------------------------------------------

DAY = dt.timedelta(days=1)


def test_never_an_expired_one_where_there_is_a_valid_one(
    backend: Backend, pki: Pki, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """The first in the file has expired, or has not begun; another of its kind, of the other kind, or a wildcard is valid."""
    gone = {"not_before": now() - 9 * DAY, "not_after": now() - DAY}
    due = {"not_before": now() + DAY}
    cases = {
        "alike.example": (pki.root.server("alike.example", **gone), pki.root.server("alike.example")),
        "early.example": (pki.root.server("early.example", **due), pki.root.server("early.example")),
        "kind.example": (pki.root.server("kind.example", **gone), pki.root.server("kind.example", key="rsa-2048")),
        "a.wild.example": (pki.root.server("a.wild.example", **gone), pki.root.server("*.wild.example")),
        "only.example": (pki.root.server("only.example", **due), pki.root.server("only.example", **gone)),
    }
    listener = tls_listener(*(one for pair in cases.values() for one in pair), ca=pki.root.path)
    tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}}
    with Balancer(tmp_path, tables) as balancer:
        balancer.expected_stderr = lambda text: all("warning" in line for line in text.splitlines())
        for name, pair in [*cases.items(), (None, cases["alike.example"])]:
            with TlsClient(balancer.port(), client_context(None, version, pki.client), server_name=name) as client:
                client.handshake().ping()
                assert client.peer_der() == pair[name != "only.example"].der, name


def test_the_next_one_takes_over(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """The one in use ends while the balancer runs: the next one is shown, without a reload, by name and by default."""
    end = now() + dt.timedelta(seconds=6)
    pair = pki.root.server("next.example", not_after=end), pki.root.server("next.example")
    listener = tls_listener(*pair, ca=pki.root.path)
    tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}}
    with Balancer(tmp_path, tables) as balancer:
        balancer.expected_stderr = lambda text: all("warning" in line for line in text.splitlines())

        def shown(name: str | None) -> bytes:
            with TlsClient(balancer.port(), client_context(None, None, pki.client), server_name=name) as client:
                client.handshake().ping()
                return client.peer_der()

        names = ("next.example", None)
        before = {name: shown(name) for name in names}
        assert dt.datetime.now(dt.UTC) <= end, "the machine was too slow for this test"
        assert set(before.values()) == {pair[0].der}
        for name in names:
            wait_until(lambda name=name: shown(name) == pair[1].der, "the next one is shown", 15)  # type: ignore[misc]
