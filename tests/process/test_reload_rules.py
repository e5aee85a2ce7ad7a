"""A reload that changes `allow` and `deny` reaches tickets and live connections; a bad rule changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.reloading import changed, refused
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

ALLOW = ["cn:client-*", "dns:*.corp.example"]


@pytest.fixture(scope="module")
def clients(pki: Pki) -> dict[str, Issued]:
    return {"good": pki.client, "by_name": pki.root.client("x", names=["host.corp.example"])}


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend) -> Tables:
    return {
        "listeners": {
            "web": tls_listener(pki.server, ca=pki.root.path, client_auth={"allow": ALLOW}),
            "plain": tls_listener(pki.server, ca=pki.root.path),
        },
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(running: Balancer, base: Tables) -> Iterator[Balancer]:
    """With the base in force, before and after."""
    yield running
    running.rewrite(base)
    running.reload()


def enforce(balancer: Balancer, base: Tables, pki: Pki, **auth: Any) -> dict[str, Any]:
    tables = changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path), **auth}})
    balancer.rewrite(tables)
    return balancer.reload()


def test_tickets_do_not_outlive_a_rule(
    balancer: Balancer, base: Tables, backend: Backend, pki: Pki, clients: dict[str, Issued]
) -> None:
    """Evaluated on resumption: who is refused now is, and who is not goes on resuming."""
    sessions = []
    for version in (TLS12, TLS13):
        for name in ("good", "by_name"):
            context = client_context(None, version, clients[name])
            with TlsClient(balancer.port(), context) as client:
                client.handshake().ping()
                sessions.append((name, context, client.session))
    answer = enforce(balancer, base, pki, allow=ALLOW, deny=["dns:host.*.example"])
    assert any("deny: added" in change for change in answer["changes"]), answer
    backend.forget()
    for name, context, session in sessions:
        client = TlsClient(balancer.port(), context, session=session)
        if name == "good":
            with client:
                client.handshake().ping()
                assert client.resumed
            continue
        assert refusal(client) == "SSLV3_ALERT_CERTIFICATE_UNKNOWN"
        line = balancer.line(client)
        assert (line["termination"], line["termination_detail"]) == ("denied", "deny[0] dns:host.*.example")
        assert line["client_cert_proven"] is False
    assert backend.accepted == 2


def test_live_connections(balancer: Balancer, base: Tables, pki: Pki, clients: dict[str, Issued]) -> None:
    """Who would be refused now is closed, with the rule; `on_revoked = "keep"` leaves them."""
    with (
        TlsClient(balancer.port(), client_context(None, None, clients["good"])) as good,
        TlsClient(balancer.port(), client_context(None, None, clients["by_name"])) as bad,
        TlsClient(balancer.port("plain"), client_context(None, None, clients["by_name"])) as elsewhere,
    ):
        for client in (good, bad, elsewhere):
            client.handshake().ping()
        assert enforce(balancer, base, pki, deny="cn:x", on_revoked="keep")["closed"] == 0
        bad.ping()
        assert enforce(balancer, base, pki, deny="cn:x")["closed"] == 1
        assert bad.read_to_end(2)[0] == b""
        line = balancer.line(bad)
        assert (line["termination"], line["termination_detail"]) == ("became_refused", "deny[0] cn:x")
        assert line["client_cert_proven"] is True
        assert enforce(balancer, base, pki, allow="cn:client-2")["closed"] == 1
        assert good.read_to_end(2)[0] == b""
        line = balancer.line(good)
        assert (line["termination"], line["termination_detail"]) == ("became_refused", "no entry of allow matches")
        elsewhere.ping()


def test_a_bad_rule_leaves_the_old_ones(balancer: Balancer, base: Tables, pki: Pki) -> None:
    balancer.rewrite(
        changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path), "allow": "cm:x"}})
    )
    refused(balancer, 'there are no rules about "cm"')
    with TlsClient(balancer.port(), client_context(None, None, pki.client)) as client:
        client.handshake().ping()
