"""A session ticket is good at every worker, also at one that was started after it was issued.

Tickets are fetched, then every worker is killed and replaced; the tickets are then used until each new worker has had some:
all must be resumed, on TLS 1.2 and 1.3, with the client's identity in the log.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer
from tests.support.workers import by_slot, end, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki

MOST = 40


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> Balancer:
    """Two workers."""
    balancer = balancer_for(tables())
    balancer.restarts_expected = True
    return balancer


def visit(
    balancer: Balancer, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[dict[str, Any], ssl.SSLSession | None]:
    """One connection; its line in the access log, and a ticket from it."""
    client = tls_client(balancer.port(), context, session)
    client.ping()
    ticket = client.session
    client.close()
    return balancer.line(client), ticket


def test_resumed_after_a_crash(balancer: Balancer, pki: Pki, mutual: ssl.SSLContext) -> None:
    """Tickets of both old workers, at both new ones."""
    tickets: dict[int, ssl.SSLSession | None] = {}
    for _ in range(MOST):
        line, ticket = visit(balancer, mutual)
        tickets[line["worker"]] = ticket
        if len(tickets) == 2:
            break
    for slot, worker in by_slot(balancer).items():
        mark = len(balancer.events())
        end(worker, signal.SIGKILL)
        balancer.wait_event("worker_started", since=mark, worker=slot)
    for ticket in tickets.values():
        seen: set[int] = set()
        for _ in range(MOST):
            line, _ = visit(balancer, mutual, ticket)
            assert line["tls_resumed"] is True, line
            assert line["client_cert_proven"] is True
            assert line["client_cert_sha256"].replace(":", "").lower() == pki.client.sha256
            seen.add(line["worker"])
            if len(seen) == 2:
                break
        assert seen == {0, 1}
