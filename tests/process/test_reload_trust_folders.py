"""Folders in `ca` and `crl`, watched: a file that comes, one that changes in place and one that goes are in force without an
order, also for who is connected.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.lists import revocation_list
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

    from tests.support.backends import Backend
    from tests.support.certs import Pki


def put(folder: Path, name: str, content: bytes) -> None:
    """Renamed into place, whole."""
    beside = folder / f".{name}.new"
    beside.write_bytes(content)
    beside.replace(folder / name)


def der(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(Encoding.DER)


def test_watched(run: Callable[..., Balancer], backend: Backend, pki: Pki, tmp_path: Path) -> None:
    trust, lists = tmp_path / "trust", tmp_path / "lists"
    for folder in (trust, lists):
        folder.mkdir()
    put(trust, "root.crt", pki.root.path.read_bytes())
    put(lists, "root.crl", der(revocation_list(pki.root)))
    listener = tls_listener(pki.server, ca=trust, client_auth={"crl": str(lists)})
    groups = {"app": server_group(backend)}
    balancer = run({"node": {"watch": True}, "listeners": {"web": listener}, "server_groups": groups})
    other = pki.other.client("of-the-other")
    contexts = [client_context(pki.root.path, None, one) for one in (pki.client, other)]

    def after(name: str, *, closed: int = 0) -> None:
        event = balancer.wait_event("reloaded", 20, since=marks[-1])
        assert (event["trigger"], event["closed"]) == ("watch", str(closed)), name
        marks.append(len(balancer.events()))

    marks = [len(balancer.events())]
    stranger = TlsClient(balancer.port(), contexts[1])
    refusal(stranger)
    assert balancer.line(stranger)["termination"] == "unknown_ca"
    (lists / "other.crl").write_bytes(b"")  # of no use yet: refused, the old generation stays
    assert "is empty" in str(balancer.wait_event("reload_refused", 20, since=marks[-1]))
    mark = len(balancer.events())
    put(lists, "other.crl", der(revocation_list(pki.other)))
    balancer.wait_event("reload_refused", 20, since=mark)  # its CA is not there yet
    put(trust, "other.der", pki.other.certificate.public_bytes(Encoding.DER))
    after("a CA comes")
    with (
        closing(tls_client(balancer.port(), contexts[1])) as live,
        closing(tls_client(balancer.port(), contexts[0])) as good,
    ):
        live.ping()
        good.ping()
        with (lists / "other.crl").open("r+b") as file:  # in place: the folder does not change
            file.write(der(revocation_list(pki.other, other, number=2)))
            file.truncate()
        after("a list changes", closed=1)
        assert live.read_to_end(2)[0] == b""
        assert balancer.line(live)["termination"] == "became_revoked"
        (lists / "other.crl").unlink()
        (trust / "other.der").unlink()
        after("both go")
        good.ping()
    late = TlsClient(balancer.port(), contexts[1])
    refusal(late)
    assert balancer.line(late)["termination"] == "unknown_ca"
