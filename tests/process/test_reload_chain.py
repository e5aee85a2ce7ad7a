"""`crl_scope = "chain"`: a CA above the clients becomes revoked. Whoever is connected is closed, a ticket from before is worth
nothing, and who stands elsewhere goes on, resuming too.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.lists import overdue, revocation_list, write_lists
from tests.support.reloading import changed
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryptography import x509

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

Lists = tuple["x509.CertificateRevocationList", ...]


@pytest.fixture(scope="module")
def below(pki: Pki) -> Issued:
    """A client of the intermediate."""
    return pki.intermediate.client("below")


@pytest.fixture(scope="module")
def tables(pki: Pki, backend: Backend) -> Callable[..., Tables]:
    """`tables(folder, list, ..., scope)`: these lists in force."""
    base = {
        "node": {"workers": 1},
        "listeners": {"web": tls_listener(pki.server, ca=[pki.root.path, pki.intermediate.path])},
        "server_groups": {"app": server_group(backend)},
    }

    def make(folder: Path, *lists: x509.CertificateRevocationList, scope: str = "chain") -> Tables:
        auth = {**base["listeners"]["web"]["client_auth"], "crl": str(write_lists(folder, *lists)), "crl_scope": scope}  # type: ignore[index]
        return changed(base, web={"client_auth": auth})

    return make


@pytest.fixture(scope="module")
def running(
    balancer_for: Callable[..., Balancer], tables: Callable[..., Tables], good: Lists, module_folder: Path
) -> Balancer:
    return balancer_for(tables(module_folder, *good))


@pytest.fixture(scope="module")
def good(pki: Pki) -> Lists:
    return revocation_list(pki.root), revocation_list(pki.intermediate)


@pytest.fixture(scope="module")
def bad(pki: Pki) -> Lists:
    """The root has revoked the intermediate."""
    return (
        revocation_list(pki.root, pki.intermediate.certificate.serial_number, number=2),
        revocation_list(pki.intermediate),
    )


@pytest.fixture
def balancer(running: Balancer, tables: Callable[..., Tables], good: Lists, tmp_path: Path) -> Iterator[Balancer]:
    """With the good lists in force, before and after."""
    yield running
    running.rewrite(tables(tmp_path, *good))
    running.reload()


def enforce(balancer: Balancer, tables: Tables) -> dict[str, Any]:
    balancer.rewrite(tables)
    return balancer.reload()


@pytest.mark.parametrize("before", ["chain", "leaf"])
def test_an_intermediate_becomes_revoked(
    balancer: Balancer,
    tables: Callable[..., Tables],
    pki: Pki,
    below: Issued,
    good: Lists,
    bad: Lists,
    version: Any,
    before: str,
    tmp_path: Path,
) -> None:
    """Live connections, full and resumed; then the ticket, and a new handshake. The same when the scope changes with it."""
    enforce(balancer, tables(tmp_path, *(bad if before == "leaf" else good), scope=before))
    contexts = {
        name: client_context(pki.root.path, version, one) for name, one in (("bad", below), ("good", pki.client))
    }
    live, sessions = {}, {}
    for name, context in contexts.items():
        live[name] = [tls_client(balancer.port(), context)]
        live[name][0].ping()
        sessions[name] = live[name][0].session
        live[name].append(tls_client(balancer.port(), context, sessions[name]))
        live[name][1].ping()
        assert live[name][1].resumed
    assert enforce(balancer, tables(tmp_path, *bad))["closed"] == 2
    for client in live["bad"]:
        assert client.read_to_end(2)[0] == b""
        line = balancer.line(client)
        assert (line["termination"], line["client_cert_proven"]) == ("became_revoked", True)
        client.close()
    for session in (sessions["bad"], None):
        late = TlsClient(balancer.port(), contexts["bad"], session=session)
        assert refusal(late) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert balancer.line(late)["termination"] == "revoked"
    for client in live["good"]:
        with closing(client):
            client.ping()
    with closing(tls_client(balancer.port(), contexts["good"], sessions["good"])) as client:
        client.ping()
        assert client.resumed, "a new list makes no full handshakes of those that it does not concern"


@pytest.mark.parametrize(("case", "word"), [("missing", "crl_missing"), ("overdue", "crl_overdue")])
def test_the_list_above_the_intermediate(
    balancer: Balancer,
    tables: Callable[..., Tables],
    pki: Pki,
    below: Issued,
    good: Lists,
    case: str,
    word: str,
    version: Any,
    tmp_path: Path,
) -> None:
    """The root's list goes or is overdue: its intermediate's clients are refused with the word for it."""
    context = client_context(pki.root.path, version, below)
    with closing(tls_client(balancer.port(), context)) as client:
        client.ping()
        session = client.session
    lists = {"missing": good[1:], "overdue": (overdue(pki.root), good[1])}[case]
    enforce(balancer, tables(tmp_path, *lists))
    for offered in (session, None):
        late = TlsClient(balancer.port(), context, session=offered)
        refusal(late)
        assert balancer.line(late)["termination"] == word
