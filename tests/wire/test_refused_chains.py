"""Chains of client certificates: how deep they may be, and that only a CA can issue.

`depth` counts the intermediates between the client certificate and a CA of `ca`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography import x509

from nlbcli.explain import command as explain
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority, Issued, Pki, now
from tests.support.lists import overdue, revocation_list, write_lists
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.support.backends import Backend

ANY_REFUSAL = {"bad_certificate", "chain_too_long", "unknown_ca", "wrong_purpose", "bad_signature"}


Make = Callable[[Pki], Issued]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, module_folder: Path) -> Balancer:
    """A listener per depth; "default" is 3. Some have lists that are about CAs too."""

    def listener(**options: object) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth=options)

    def listing(*lists: x509.CertificateRevocationList) -> dict[str, object]:
        crl = str(write_lists(module_folder, *lists, revocation_list(pki.intermediate)))
        ca = [str(pki.root.path), str(pki.intermediate.path)]
        auth = {"mode": "required", "ca": ca, "crl": crl, "crl_scope": "chain"}
        return tls_listener(pki.server, client_auth=None) | {"client_auth": auth}

    depths = {f"depth{depth}": listener(depth=depth) for depth in (0, 1, 2)}
    lists = {
        "revoked": listing(revocation_list(pki.root, pki.intermediate.certificate.serial_number)),
        "missing": listing(),
        "overdue": listing(overdue(pki.root)),
    }
    return balancer_for(
        {"listeners": {"default": listener(), **depths, **lists}, "server_groups": {"app": server_group(backend)}}
    )


@pytest.fixture(scope="module")
def clients(pki: Pki) -> dict[int, Issued]:
    """A client below so many intermediates."""
    return {count: pki.deep_client(f"below-{count}", count) for count in range(5)}


@pytest.mark.parametrize(("listener", "allowed"), [("depth0", 0), ("depth1", 1), ("depth2", 2), ("default", 3)])
def test_depth(
    balancer: Balancer,
    backend: Backend,
    pki: Pki,
    clients: dict[int, Issued],
    version: ssl.TLSVersion,
    listener: str,
    allowed: int,
) -> None:
    """Exactly `depth` intermediates are let in, one more is `chain_too_long`."""
    with TlsClient(balancer.port(listener), client_context(pki.root.path, version, clients[allowed])) as client:
        client.handshake().ping()
    assert clients[allowed].common_name in balancer.line(client)["client_cert_subject"]
    backend.forget()
    client = TlsClient(balancer.port(listener), client_context(pki.root.path, version, clients[allowed + 1]))
    refusal(client)
    assert balancer.line(client)["termination"] == "chain_too_long"
    assert backend.accepted == 0


def _issued_by_a_leaf(pki: Pki) -> Issued:
    """A client that issues a certificate as if it were a CA."""
    leaf = Authority(pki.folder, "Only A Leaf", issuer=pki.root, is_ca=False)
    return leaf.client("by-a-leaf")


def _path_length(pki: Pki) -> Issued:
    """An intermediate below one that may have none below it."""
    last = pki.root.intermediate("Last One", path_length=0)
    return last.intermediate("One Too Many").client("too-low")


def _ca_as_client(pki: Pki) -> Issued:
    """A CA certificate used as a client."""
    return pki.root.client("ca-client", is_ca=True)


def _nameless(pki: Pki) -> Issued:
    """Neither a subject nor a subjectAltName."""
    return pki.root.client("nameless", subject=x509.Name([]))


@pytest.mark.parametrize("make", [_issued_by_a_leaf, _path_length, _ca_as_client, _nameless])
def test_never_accepted(
    balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion, make: Callable[[Pki], Issued]
) -> None:
    """Refused with a word about the certificate, nothing at a server."""
    backend.forget()
    client = TlsClient(balancer.port("default"), client_context(pki.root.path, version, make(pki)))
    refusal(client)
    line = balancer.line(client)
    assert line["termination"] in ANY_REFUSAL
    assert line["client_cert_proven"] is False
    assert backend.accepted == 0


def _expired(pki: Pki) -> Issued:
    """Below a CA whose certificate has expired."""
    return pki.root.intermediate("Expired CA", not_after=now() - dt.timedelta(hours=1)).client("below-expired")


def _expired_itself(pki: Pki) -> Issued:
    return pki.bad_client("expired")


def _long_name(pki: Pki) -> Issued:
    """Below an expired CA of a very long name."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * 15)
    return pki.root.intermediate(not_after=now() - dt.timedelta(hours=1), subject=subject).client("below-long")


def _lost(pki: Pki) -> Issued:
    """Of a foreign CA, with its intermediates but not the root."""
    return pki.other.intermediate("Foreign CA").client("foreign")


def _below(pki: Pki) -> Issued:
    return pki.intermediate.client("below")


@pytest.mark.parametrize(
    ("listener", "make", "word", "depth", "subject"),
    [
        ("default", _expired, "expired", 1, "CN=Expired CA"),
        ("default", _expired_itself, "expired", 0, None),
        ("default", _long_name, "expired", 1, None),
        ("default", _issued_by_a_leaf, "wrong_purpose", 1, "CN=Only A Leaf"),
        ("default", _path_length, "chain_too_long", 2, "CN=Last One"),
        ("default", _lost, "unknown_ca", 1, "CN=Foreign CA"),
        ("revoked", _below, "revoked", 0, "CN=Test Intermediate"),
        ("missing", _below, "crl_missing", 0, "CN=Test Intermediate"),
        ("overdue", _below, "crl_overdue", 0, "CN=Test Intermediate"),
    ],
)
def test_the_ca_that_it_is_about(
    balancer: Balancer,
    pki: Pki,
    version: ssl.TLSVersion,
    listener: str,
    make: Make,
    word: str,
    depth: int,
    subject: str | None,
) -> None:
    """The line has the subject of the CA certificate; lists have no depth. `nlb explain` says the same."""
    certificate = make(pki)
    client = TlsClient(balancer.port(listener), client_context(pki.root.path, version, certificate))
    refusal(client)
    line = balancer.line(client)
    assert (line["termination"], line.get("verify_ca_subject")) == (word, subject)
    assert line["termination_detail"].endswith(f", certificate at depth {depth}") is bool(depth)
    arguments = [str(certificate.path), "-c", str(balancer.path), "--listener", listener]
    told = json.loads(CliRunner().invoke(explain, [*arguments, "--json"]).stdout)
    assert (told["word"], told["depth"], told["verify_ca_subject"]) == (word, depth, subject or "")
    shown = CliRunner().invoke(explain, arguments).stdout
    assert ("certificate at depth" in shown) is bool(depth)
    assert subject is None or f": {subject}\n" in shown
