"""What is counted by client certificate is counted over all workers: the limit of connections, and the certificates that end soon.
A worker that dies takes its own with it.
"""

from __future__ import annotations

import datetime as dt
import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import wait_scrape
from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.certs import now
from tests.support.ports import free_port
from tests.support.reloading import changed
from tests.support.tls_client import TlsClient, client_context
from tests.support.waiting import wait_until
from tests.support.workers import by_slot, spread, tls_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki
    from tests.support.reloading import Tables

LIMIT = 12
"""So many that no worker gets them all, but once in 2,000 times."""


@pytest.fixture
def tables(pki: Pki, backend: Backend) -> Tables:
    auth = {"mode": "required", "ca": str(pki.root.path), "max_connections_per_certificate": LIMIT}
    return {
        "node": {"workers": 2, "admin": f"127.0.0.1:{free_port()}"},
        "listeners": {"web": {**tls_listener(pki.server), "client_auth": auth}},
        "server_groups": {"app": server_group(backend)},
    }


def test_limit(run: Callable[..., Balancer], tables: Tables, pki: Pki, backend: Backend) -> None:
    """Full with connections at both workers; over it at neither; free again when one worker has died; and lifted by a reload."""
    balancer = run(tables)
    context = client_context(pki.root.path, None, pki.client)
    with ExitStack() as stack:
        for _ in range(LIMIT):
            stack.enter_context(tls_client(balancer.port(), context)).ping()
        assert all(worker["connections"] for worker in balancer.ask("status")["workers"]), "both have some"
        before = backend.accepted
        for _ in range(8):
            client = stack.enter_context(TlsClient(balancer.port(), context))
            client.handshake()
            assert client.read_to_end(5)[0] == b""
            line = balancer.line(client)
            assert (line["termination"], line["termination_detail"]) == (
                "connection_limit",
                "max_connections_per_certificate",
            )
            assert line["client_cert_proven"] is True
        assert backend.accepted == before, "no server is dialled"
        other = client_context(pki.root.path, None, pki.root.client("another"))
        stack.enter_context(tls_client(balancer.port(), other)).ping()
        by_slot(balancer)[1].send_signal(signal.SIGKILL)
        wait_until(
            lambda: len(balancer.workers()) == 2 and balancer.ask("status")["connections"] <= LIMIT, "it is back", 20
        )
        client = stack.enter_context(tls_client(balancer.port(), context))
        client.ping()
        balancer.rewrite(changed(tables, web={"client_auth": {"mode": "required", "ca": str(pki.root.path)}}))
        balancer.reload()
        for _ in range(LIMIT):
            stack.enter_context(tls_client(balancer.port(), context)).ping()


def test_certificates_that_end_soon(run: Callable[..., Balancer], tables: Tables, pki: Pki) -> None:
    """Each once, at however many workers it is shown; in the metrics and in `nlb status`."""
    balancer = run(tables)
    port = int(tables["node"]["admin"].rpartition(":")[2])
    with ExitStack() as stack:
        for days in (3, 20):
            certificate = pki.root.client(f"for-{days}", not_after=now() + dt.timedelta(days=days))
            context = client_context(pki.root.path, None, certificate)
            spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)
        wanted = {"1d": 0, "7d": 1, "14d": 1, "30d": 2}
        name = "nlb_client_certificate_expiring"
        wait_scrape(
            port,
            lambda one: all(one(name, listener="web", within=period) == count for period, count in wanted.items()),
            f"{wanted}",
        )
        assert balancer.status()["listeners"][0]["expiring"] == wanted
        assert "within 7d 1, within 14d 1, within 30d 2" in nlb("status", "--socket", balancer.control_socket).stdout
        by_slot(balancer)[0].send_signal(signal.SIGKILL)
        wait_scrape(
            port, lambda one: one(name, listener="web", within="30d") == 2, "the other worker counts them now", 20
        )
    wait_scrape(port, lambda one: one(name, listener="web", within="30d") == 0, "all have left", 20)
