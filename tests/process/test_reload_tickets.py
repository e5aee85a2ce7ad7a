"""Session tickets across reloads: good after a new certificate, at every worker and at one that was started after it; worth
nothing once the set of CAs is another one.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.lists import revocation_list, write_lists
from tests.support.reloading import Material, changed
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.workers import by_slot, end, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki
    from tests.support.reloading import Tables

    Tickets = dict[int, ssl.SSLSession | None]

MOST = 60


@pytest.fixture(scope="module")
def material(pki: Pki, module_folder: Path) -> Material:
    """That of the listener."""
    return Material(module_folder, pki.server)


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend, material: Material) -> Tables:
    return {
        "node": {"workers": 2},
        "listeners": {"web": tls_listener(material, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(running: Balancer, base: Tables, material: Material, pki: Pki) -> Iterator[Balancer]:
    """With the base in force, before and after."""
    running.restarts_expected = True
    yield running
    material.renew(pki.server)
    running.rewrite(base)
    running.reload()


def visit(
    balancer: Balancer, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[dict[str, Any], ssl.SSLSession | None]:
    """One connection; its line in the access log, and a ticket from it."""
    client = tls_client(balancer.port(), context, session)
    client.ping()
    ticket = client.session
    client.close()
    return balancer.line(client), ticket


def tickets(balancer: Balancer, context: ssl.SSLContext) -> Tickets:
    """One of each worker."""
    found: Tickets = {}
    for _ in range(MOST):
        line, ticket = visit(balancer, context)
        found[line["worker"]] = ticket
        if len(found) == 2:
            return found
    raise AssertionError(f"only from {found.keys()}")


def used(balancer: Balancer, context: ssl.SSLContext, ticket: ssl.SSLSession | None) -> dict[int, bool]:
    """Offer a ticket until both workers have seen it: whether each has resumed it."""
    seen: dict[int, bool] = {}
    for _ in range(MOST):
        line, _ = visit(balancer, context, ticket)
        seen[line["worker"]] = line["tls_resumed"]
        if len(seen) == 2:
            return seen
    raise AssertionError(f"only at {seen.keys()}")


def test_new_certificate(balancer: Balancer, mutual: ssl.SSLContext, material: Material, pki: Pki) -> None:
    """Tickets of both workers are good at both after the reload, and after a worker was killed and replaced."""
    both = tickets(balancer, mutual)
    material.renew(pki.root.server("www.example.com"))
    balancer.reload()
    for ticket in both.values():
        assert used(balancer, mutual, ticket) == {0: True, 1: True}
    mark = len(balancer.events())
    end(by_slot(balancer)[1], signal.SIGKILL)
    balancer.wait_event("worker_started", since=mark, worker=1)
    for ticket in both.values():
        assert used(balancer, mutual, ticket) == {0: True, 1: True}


def test_new_leaf_list(balancer: Balancer, base: Tables, mutual: ssl.SSLContext, pki: Pki, tmp_path: Path) -> None:
    """A list that does not concern the client costs it nothing; one that names it refuses the ticket too."""
    ticket = tickets(balancer, mutual)[0]
    for revoked in ([pki.root.client("somebody")], [pki.client]):
        crl = write_lists(tmp_path, revocation_list(pki.root, *revoked))
        auth = {"mode": "required", "ca": str(pki.root.path), "crl": str(crl)}
        balancer.rewrite(changed(base, web={"client_auth": auth}))
        balancer.reload()
        if revoked != [pki.client]:
            assert used(balancer, mutual, ticket) == {0: True, 1: True}
    for _ in range(4):
        client = TlsClient(balancer.port(), mutual, session=ticket)
        assert refusal(client) == "SSLV3_ALERT_CERTIFICATE_REVOKED"


def test_other_cas(balancer: Balancer, base: Tables, mutual: ssl.SSLContext, pki: Pki) -> None:
    """More CAs, or fewer: a full handshake, at both workers. With the first set again the first tickets are good again."""
    ticket = tickets(balancer, mutual)[0]
    balancer.rewrite(
        changed(base, web={"client_auth": {"mode": "required", "ca": [str(pki.root.path), str(pki.other.path)]}})
    )
    balancer.reload()
    assert used(balancer, mutual, ticket) == {0: False, 1: False}
    balancer.rewrite(base)
    balancer.reload()
    assert used(balancer, mutual, ticket) == {0: True, 1: True}


def test_client_of_a_ca_that_has_gone(balancer: Balancer, base: Tables, pki: Pki, version: ssl.TLSVersion) -> None:
    """Its ticket does not let it in."""
    auth = {"mode": "required", "ca": [str(pki.root.path), str(pki.other.path)]}
    balancer.rewrite(changed(base, web={"client_auth": auth}))
    balancer.reload()
    context = client_context(pki.root.path, version, pki.other.client("of-the-other"))
    ticket = tickets(balancer, context)[1]
    balancer.rewrite(base)
    balancer.reload()
    for _ in range(4):
        client = TlsClient(balancer.port(), context, session=ticket)
        assert refusal(client) == "TLSV1_ALERT_UNKNOWN_CA"
        assert balancer.line(client)["termination"] == "unknown_ca"


def test_tickets_off(balancer: Balancer, base: Tables, mutual: ssl.SSLContext) -> None:
    """Switched off by a reload: the old ones are good no more, and there are no new ones."""
    ticket = tickets(balancer, mutual)[0]
    balancer.rewrite(changed(base, web={"session_tickets": False}))
    balancer.reload()
    assert used(balancer, mutual, ticket) == {0: False, 1: False}
