"""`optional` and `report`: who is let in, what the log says of each, and what a ticket of such a client is worth.

`optional`: no certificate is fine, a bad one is refused as under `required`. `report`: everybody is let in, whose handshake
itself is in order, and the line has the verdict that `required` would have had, on a full handshake and on a resumed one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import wait_scrape
from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.certs import BAD_CLIENTS, Issued, without_key
from tests.support.lists import revocation_list, write_lists
from tests.support.ports import free_port
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def admin() -> int:
    return free_port()


@pytest.fixture(scope="module")
def former(pki: Pki) -> Issued:
    """A client that is on the list."""
    return pki.root.client("former")


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, former: Issued, admin: int, module_folder: Any
) -> Balancer:
    """A listener of each mode."""
    crl = write_lists(module_folder, revocation_list(pki.root, former))

    def listener(mode: str, **auth: object) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth={"mode": mode, **auth})

    return balancer_for(
        {
            "node": {"admin": f"127.0.0.1:{admin}"},
            "listeners": {
                "optional": listener("optional"),
                "report": listener("report"),
                "revoking": listener("report", crl=str(crl)),
                "required": listener("required"),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


def visit(
    balancer: Balancer, listener: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[dict[str, Any], TlsClient]:
    """Come in, be served, leave; the line."""
    with TlsClient(balancer.port(listener), context, session=session) as client:
        client.handshake().ping()
    return balancer.line(client), client


# -- optional -------------------------------------------------------------------------------------------------------------


def test_optional_without_a_certificate(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Let in, full and resumed; nothing of an identity in the log."""
    context = client_context(pki.root.path, version)
    session = None
    for resumed in (False, True):
        line, client = visit(balancer, "optional", context, session)
        assert client.resumed is resumed
        assert not [key for key in line if key.startswith("client_cert")]
        session = client.session


def test_optional_with_a_good_one(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Let in and named, full and resumed."""
    context = client_context(pki.root.path, version, pki.client)
    session = None
    for resumed in (False, True):
        line, client = visit(balancer, "optional", context, session)
        assert client.resumed is resumed
        assert line["client_cert_proven"] is True
        assert line["client_cert_subject"] == "CN=client-1"
        assert "client_cert_verdict" not in line
        session = client.session


@pytest.mark.parametrize("kind", ["unknown_ca", "expired", "wrong_purpose", "weak_rsa"])
def test_optional_with_a_bad_one(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, kind: str
) -> None:
    """Whoever shows one has to show a good one."""
    backend.forget()
    client = TlsClient(balancer.port("optional"), client_context(pki.root.path, version, pki.bad_client(kind)))
    assert "ALERT" in refusal(client)
    assert balancer.line(client)["termination"] == BAD_CLIENTS[kind][0]
    assert backend.accepted == 0


# -- report ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD_CLIENTS)
def test_report_with_a_bad_one(balancer: Balancer, pki: Pki, version: ssl.TLSVersion, kind: str) -> None:
    """Served, twice; both lines have the word that `required` has for it, and the first error is the verdict."""
    certificate = pki.bad_client(kind)
    context = client_context(pki.root.path, version, certificate)
    session = None
    results = set()
    for _ in range(2):
        line, client = visit(balancer, "report", context, session)
        assert line["client_cert_verdict"] == BAD_CLIENTS[kind][0]
        assert line["client_cert_verdict_detail"]
        assert line["client_cert_proven"] is True, "it has the key"
        assert line["client_cert_sha256"] == certificate.sha256
        assert line["termination"] == "client_close"
        assert "termination_detail" not in line
        results.add(line["verify_result"])
        session = client.session
    assert client.resumed
    assert len(results) == 1
    assert results != {0}


def test_report_with_a_revoked_one(balancer: Balancer, pki: Pki, former: Issued, version: ssl.TLSVersion) -> None:
    context = client_context(pki.root.path, version, former)
    session = None
    for _ in range(2):
        line, client = visit(balancer, "revoking", context, session)
        assert (line["client_cert_verdict"], line["verify_result"]) == ("revoked", 23)
        session = client.session


def test_report_without_a_certificate(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    context = client_context(pki.root.path, version)
    session = None
    for resumed in (False, True):
        line, client = visit(balancer, "report", context, session)
        assert client.resumed is resumed
        assert line["client_cert_verdict"] == "no_certificate"
        assert "client_cert_verdict_detail" not in line
        assert "client_cert_proven" not in line
        session = client.session


def test_report_with_a_good_one(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    context = client_context(pki.root.path, version, pki.client)
    session = None
    for resumed in (False, True):
        line, client = visit(balancer, "report", context, session)
        assert client.resumed is resumed
        assert (line["client_cert_verdict"], line["verify_result"]) == ("accepted", 0)
        session = client.session


def test_verdicts_are_counted(balancer: Balancer, pki: Pki, admin: int) -> None:
    """In the metrics from zero on, and in the status."""
    name = "nlb_client_certificate_verdicts_total"
    before = wait_scrape(
        admin, lambda one: (name, frozenset({("listener", "report"), ("verdict", "denied")})) in one.samples, name
    )
    for certificate in (None, pki.client, pki.bad_client("unknown_ca")):
        visit(balancer, "report", client_context(pki.root.path, None, certificate))
    words = ("no_certificate", "accepted", "unknown_ca")
    wanted = {word: before(name, listener="report", verdict=word) + 1 for word in words}
    wait_scrape(
        admin, lambda one: all(one(name, listener="report", verdict=word) == wanted[word] for word in words), "counted"
    )
    (status,) = [one for one in balancer.status()["listeners"] if one["name"] == "report"]
    assert {word: status["verdicts"][word] for word in words} == wanted
    assert "verdicts" not in balancer.status()["listeners"][0]


def test_live_connections_show_it(balancer: Balancer, pki: Pki) -> None:
    """`nlb conns` too."""
    with TlsClient(
        balancer.port("report"), client_context(pki.root.path, None, pki.bad_client("unknown_ca"))
    ) as client:
        client.handshake().ping()
        told = json.loads(nlb("conns", "--json", "--socket", balancer.control_socket).stdout)
        (one,) = [line for line in told if line["client_port"] == client.port]
        assert one["client_cert_verdict"] == "unknown_ca"
        assert "issuer CN=Other Root" in one["client_cert_verdict_detail"]


def test_a_key_that_is_not_the_clients_ends_it(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion
) -> None:
    """Who cannot prove to have the key of his certificate is refused: that is no matter of trust. Nor has the line a verdict."""
    backend.forget()
    stolen = without_key(pki.bad_client("unknown_ca"))
    client = TlsClient(balancer.port("report"), client_context(pki.root.path, version, stolen))
    assert "ALERT" in refusal(client)
    line = balancer.line(client)
    assert line["termination"] == "bad_signature", line.get("termination_detail")
    assert line["client_cert_proven"] is False
    assert "client_cert_verdict" not in line
    assert backend.accepted == 0


@pytest.mark.parametrize("tickets", [True, False], ids=["ticket", "session_id"])
@pytest.mark.parametrize("kind", ["unknown_ca", None])
def test_what_report_let_in_resumes_nowhere_else(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, kind: str | None, tickets: bool
) -> None:
    """Offered at listeners that refuse: a full handshake, and a refusal."""
    certificate = pki.bad_client(kind) if kind else None
    context = client_context(pki.root.path, version, certificate, tickets=tickets)
    _, first = visit(balancer, "report", context)
    backend.forget()
    client = TlsClient(balancer.port("required"), context, session=first.session)
    refusal(client)
    assert balancer.line(client)["termination"] == (kind or "no_certificate")
    assert backend.accepted == 0
    if kind:
        client = TlsClient(balancer.port("optional"), context, session=first.session)
        refusal(client)
        assert balancer.line(client)["termination"] == kind
