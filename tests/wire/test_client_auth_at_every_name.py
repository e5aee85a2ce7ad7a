"""Whatever name a client asks for, and wherever its session and its PROXY header say that it comes from, its certificate is
judged alike: the name chooses another context in the middle of the handshake, and that must take nothing away.

Each mode with each name, certificate and TLS version; sessions of each name offered at each other one; behind a front
balancer that is believed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import without_key
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

DEFAULT, OTHER = "www.example.com", "other.example.com"
NAMES = (DEFAULT, OTHER, "any.wild.example.com", "unknown.example.net", None)
WORDS: dict[str, dict[str, str | None]] = {
    "required": {"none": "no_certificate", "good": None, "stranger": "unknown_ca", "expired": "expired"},
    "optional": {"none": None, "good": None, "stranger": "unknown_ca", "expired": "expired"},
    "report": {"none": None, "good": None, "stranger": None, "expired": None},
}
"""Of each mode and client, the word of the refusal; none: let in."""
HEADERS = (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 443\r\n", b"PROXY UNKNOWN\r\n")


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    certificates = [pki.server, pki.root.server(OTHER), pki.root.server("*.wild.example.com")]

    def listener(mode: str, **keys: Any) -> dict[str, object]:
        return tls_listener(*certificates, ca=pki.root.path, client_auth={"mode": mode}, **keys)

    modes = {mode: listener(mode) for mode in ("off", *WORDS)}
    fronted = {f"fronted_{mode}": listener(mode, accept_proxy_protocol_from="127.0.0.1") for mode in WORDS}
    limited = listener("required")
    limited["client_auth"] |= {"max_connections_per_certificate": 1}  # type: ignore[operator]
    return balancer_for(
        {
            "log": {"refusals_per_second": 0},
            "listeners": {**modes, **fronted, "limited": limited},
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.fixture(scope="module")
def certificates(pki: Pki) -> dict[str, Issued | None]:
    bad = {"stranger": pki.bad_client("unknown_ca"), "expired": pki.bad_client("expired")}
    return {"none": None, "good": pki.client, **bad}


def judged(
    balancer: Balancer, listener: str, client: TlsClient, word: str | None, note: object
) -> ssl.SSLSession | None:
    """Let in and served, or refused with the word and nothing at a server; the session."""
    if word is None:
        with client:
            client.handshake().ping()
        return client.session
    refusal(client)
    line = balancer.line(client)
    assert (line["listener"], line["termination"]) == (listener, word), note
    assert "server" not in line, note
    return None


@pytest.mark.parametrize("mode", WORDS)
def test_full_and_from_name_to_name(
    balancer: Balancer,
    backend: Backend,
    certificates: dict[str, Issued | None],
    version: ssl.TLSVersion,
    mode: str,
) -> None:
    """A session of each name at each other one is worth what the same client is without it."""
    for who, word in WORDS[mode].items():
        context = client_context(None, version, certificates[who])
        backend.forget()
        sessions = {}
        for name in NAMES:
            client = TlsClient(balancer.port(mode), context, server_name=name)
            sessions[name] = judged(balancer, mode, client, word, (who, name))
        for first, second in itertools.permutations(NAMES, 2):
            client = TlsClient(balancer.port(mode), context, server_name=second, session=sessions[first])
            judged(balancer, mode, client, word, (who, first, second))
        assert word is None or backend.accepted == 0, who


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_sessions_of_laxer_listeners_at_every_name(
    balancer: Balancer, backend: Backend, certificates: dict[str, Issued | None], version: ssl.TLSVersion, mode: str
) -> None:
    """Of `off`, `report` and `optional`, got at one name and offered at each."""
    for lax, (who, word) in itertools.product(("off", "report", "optional"), WORDS[mode].items()):
        if word is None or (lax == "optional" and who != "none"):
            continue
        context = client_context(None, version, certificates[who])
        session = judged(balancer, lax, TlsClient(balancer.port(lax), context, server_name=OTHER), None, who)
        backend.forget()
        for name in NAMES:
            client = TlsClient(balancer.port(mode), context, server_name=name, session=session)
            judged(balancer, mode, client, word, (lax, who, name))
        assert backend.accepted == 0, (lax, who)


@pytest.mark.parametrize("mode", WORDS)
def test_behind_a_front_balancer(
    balancer: Balancer, certificates: dict[str, Issued | None], version: ssl.TLSVersion, mode: str
) -> None:
    """The header's addresses are no credentials, whatever they are; the line has them beside the word."""
    for header, name, (who, word) in itertools.product(HEADERS, (DEFAULT, OTHER), WORDS[mode].items()):
        client = TlsClient(
            balancer.port(f"fronted_{mode}"), client_context(None, version, certificates[who]), server_name=name
        )
        client.send_raw(header)
        judged(balancer, f"fronted_{mode}", client, word, (header, who))


def test_a_header_where_none_is_believed(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion
) -> None:
    """Is no TLS, even before a good handshake."""
    backend.forget()
    client = TlsClient(balancer.port("required"), client_context(None, version, pki.client))
    client.send_raw(HEADERS[0])
    judged(balancer, "required", client, "not_tls", "")
    assert backend.accepted == 0


@pytest.mark.parametrize("mode", WORDS)
@pytest.mark.parametrize("name", [DEFAULT, OTHER])
def test_without_the_key(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, mode: str, name: str
) -> None:
    """A good certificate and a signature by another key: refused in every mode, unproven."""
    backend.forget()
    client = TlsClient(balancer.port(mode), client_context(None, version, without_key(pki.client)), server_name=name)
    assert "ALERT" in refusal(client)
    line = balancer.line(client)
    assert (line["termination"], line["client_cert_proven"]) == ("bad_signature", False)
    assert backend.accepted == 0


def test_limit_counts_sessions_resumed(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """One connection for each certificate: a session is no second one, at whatever name; free again when it has gone."""
    context = client_context(None, version, pki.client)
    with TlsClient(balancer.port("limited"), context) as first:
        first.handshake().ping()
        session, before = first.session, backend.accepted
        for name in (DEFAULT, OTHER):
            with TlsClient(balancer.port("limited"), context, server_name=name, session=session) as second:
                second.handshake()
                assert second.read_to_end(5)[0] == b""
            line = balancer.line(second)
            assert (line["termination"], line["tls_resumed"]) == ("connection_limit", second.resumed)
            assert line["client_cert_proven"] is True
        assert backend.accepted == before
    balancer.line(first)
    with TlsClient(balancer.port("limited"), context, session=session) as third:
        third.handshake().ping()
        assert third.resumed
    balancer.line(third)
