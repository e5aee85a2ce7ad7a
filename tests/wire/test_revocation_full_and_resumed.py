"""Revoked, overdue, missing: refused in a full handshake and with a ticket, on both TLS versions, each with its own word
in the log and its own alert; who is not concerned is let in, and goes on resuming.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority, Issued, now
from tests.support.lists import overdue, revocation_list, write_lists
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

REVOKED, OVERDUE, MISSING = (
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "TLSV1_ALERT_UNKNOWN_CA",
)
SERIAL = 2**158 + 1


@pytest.fixture(scope="module")
def namesake(pki: Pki) -> Authority:
    """Another CA that calls itself by our root's name."""
    return Authority(pki.folder, "Test Root")


@pytest.fixture(scope="module")
def clients(pki: Pki, namesake: Authority) -> dict[str, Issued]:
    return {
        "good": pki.client,
        "revoked": pki.root.client("revoked-one", serial=SERIAL),
        "other": pki.other.client("of-the-other", serial=SERIAL),
        "below": pki.intermediate.client("below", serial=SERIAL),
        "namesake": namesake.client("of-the-namesake", serial=SERIAL),
    }


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, namesake: Authority, module_folder: Path
) -> Balancer:
    root, other, below = pki.root.path, pki.other.path, pki.intermediate.path
    full, late = revocation_list(pki.root, SERIAL), overdue(pki.root, SERIAL)

    def listener(ca: Path | list[Path], crl: Path | list[Path], **keys: object) -> dict[str, object]:
        paths = [str(one) for one in crl] if isinstance(crl, list) else str(crl)
        return tls_listener(pki.server, ca=ca, client_auth={"crl": paths, **keys})

    one_file = write_lists(
        module_folder, revocation_list(pki.intermediate, SERIAL), revocation_list(pki.root), text=b"a comment\n"
    )
    two = [
        write_lists(module_folder, revocation_list(pki.root)),
        write_lists(module_folder, revocation_list(namesake, SERIAL)),
    ]
    return balancer_for(
        {
            "listeners": {
                "pem": listener(root, write_lists(module_folder, full)),
                "der": listener(root, write_lists(module_folder, full, encoding=Encoding.DER)),
                "overdue": listener(root, write_lists(module_folder, late)),
                "accepted": listener(root, write_lists(module_folder, late), on_crl_overdue="accept"),
                "missing": listener([root, other], write_lists(module_folder, revocation_list(pki.other))),
                "one_file": listener([root, below], one_file),
                "namesake": listener([root, namesake.path], two),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize(
    ("listener", "client", "word", "alert"),
    [
        ("pem", "good", None, ""),
        ("pem", "revoked", "revoked", REVOKED),
        ("pem", "below", "crl_missing", MISSING),
        ("der", "good", None, ""),
        ("der", "revoked", "revoked", REVOKED),
        ("overdue", "good", "crl_overdue", OVERDUE),
        ("overdue", "revoked", "revoked", REVOKED),
        ("accepted", "good", None, ""),
        ("accepted", "revoked", "revoked", REVOKED),
        ("missing", "good", "crl_missing", MISSING),
        ("missing", "other", None, ""),
        ("one_file", "good", None, ""),
        ("one_file", "revoked", None, ""),
        ("one_file", "below", "revoked", REVOKED),
        ("namesake", "revoked", None, ""),
        ("namesake", "namesake", "revoked", REVOKED),
    ],
)
def test_full_and_resumed(
    balancer: Balancer,
    backend: Backend,
    clients: dict[str, Issued],
    version: ssl.TLSVersion,
    listener: str,
    client: str,
    word: str | None,
    alert: str,
) -> None:
    """`word` is None for a client that is let in: then it is let in with its ticket too."""
    backend.forget()
    certificate = clients[client]
    context = client_context(None, version, certificate)
    if word is None:
        with TlsClient(balancer.port(listener), context) as first:
            first.handshake().ping()
            session = first.session
        with TlsClient(balancer.port(listener), context, session=session) as second:
            second.handshake().ping()
            assert second.resumed
        assert balancer.line(second)["client_cert_proven"] is True
        return
    refused = TlsClient(balancer.port(listener), context)
    assert refusal(refused) == alert
    line = balancer.line(refused)
    assert line["termination"] == word
    assert line["client_cert_proven"] is False
    assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
    assert certificate.common_name in line["client_cert_subject"]
    assert backend.accepted == 0


def test_a_list_becomes_overdue(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """Without a reload, and tickets from before are no way round it."""
    expiry = now() + dt.timedelta(seconds=4)
    listed = write_lists(tmp_path, revocation_list(pki.root, next_update=expiry))
    listener = tls_listener(pki.server, ca=pki.root.path, client_auth={"crl": str(listed)})
    tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}}
    with Balancer(tmp_path, tables) as balancer:
        sessions = []
        for version in (TLS12, TLS13):
            context = client_context(None, version, pki.client)
            with TlsClient(balancer.port(), context) as client:
                client.handshake().ping()
                sessions.append((context, client.session))
        time.sleep(max(0.0, (expiry - dt.datetime.now(dt.UTC)).total_seconds()) + 1.2)  # time is the behaviour
        backend.forget()
        for context, session in [*sessions, *((context, None) for context, _ in sessions)]:
            client = TlsClient(balancer.port(), context, session=session)
            assert refusal(client) == OVERDUE
            line = balancer.line(client)
            assert line["termination"] == "crl_overdue"
            assert line["client_cert_proven"] is False
        assert backend.accepted == 0
