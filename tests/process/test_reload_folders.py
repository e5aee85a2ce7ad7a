"""Material as it is renewed in practice: folders that are exchanged by a symbolic link (Kubernetes, certbot), files that are
half written, a certificate that comes before its key; by command, and by itself with `watch = true`.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.lists import revocation_list, write_lists
from tests.support.reloading import descriptors, no_more_than, refused, swap_link
from tests.support.tls_client import TlsClient, client_context
from tests.support.waiting import wait_until
from tests.support.workers import tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

    Run = Callable[..., Balancer]


class Secret:
    """A mounted secret of Kubernetes: `tls.crt` leads to `..data/tls.crt`, and `..data` to a folder that is exchanged."""

    def __init__(self, folder: Path, issued: Issued) -> None:
        self.folder = folder
        self._versions = 0
        self.update(issued)
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def update(self, issued: Issued) -> None:
        """As the kubelet does: a new folder, the link at one stroke, the old folder is removed."""
        old = (self.folder / "..data").resolve() if self._versions else None
        self._versions += 1
        new = self.folder / f"..2026_{self._versions}"
        new.mkdir()
        shutil.copy(issued.path, new / "tls.crt")
        shutil.copy(issued.key_path, new / "tls.key")
        swap_link(self.folder / "..data", Path(new.name))
        if old is not None:
            shutil.rmtree(old)

    def entry(self) -> dict[str, str]:
        return {"certificate": str(self.folder / "tls.crt"), "private_key": str(self.folder / "tls.key")}


@pytest.fixture
def secret(tmp_path: Path, pki: Pki) -> Secret:
    folder = tmp_path / "secret"
    folder.mkdir(mode=0o700)
    return Secret(folder, pki.server)


@pytest.fixture
def other(pki: Pki) -> Issued:
    """The next server certificate."""
    return pki.root.server("www.example.com")


def configuration(secret: Secret, pki: Pki, backend: Backend, **node: object) -> dict[str, Any]:
    return {
        "node": {"workers": 2, **node},
        "listeners": {"web": tls_listener(secret, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }


def shown(balancer: Balancer, context: ssl.SSLContext) -> bytes:
    """The certificate that a new client gets."""
    with closing(tls_client(balancer.port(), context)) as client:
        client.ping()
        return client.peer_der()


def test_by_command(
    run: Run, secret: Secret, other: Issued, pki: Pki, backend: Backend, context: ssl.SSLContext
) -> None:
    """The link is followed anew. What is half written in the new folder is refused, and accepted when it is whole."""
    balancer = run(configuration(secret, pki, backend))
    before = descriptors(balancer)
    secret.update(other)
    balancer.reload()
    assert shown(balancer, context) == other.der
    key = secret.folder / "tls.key"
    shutil.copy(pki.server.key_path, key)  # only one of the two, and through the link
    refused(balancer, "listeners.web.certificates")
    key.write_bytes(pki.server.key_path.read_bytes()[:100])
    refused(balancer, str(key))
    assert shown(balancer, context) == other.der
    shutil.copy(pki.server.path, secret.folder / "tls.crt")
    shutil.copy(pki.server.key_path, key)
    balancer.reload()
    assert shown(balancer, context) == pki.server.der
    no_more_than(balancer, before)


def test_by_itself(
    run: Run, secret: Secret, other: Issued, pki: Pki, backend: Backend, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """`watch = true`: a new certificate, then a list, then the configuration itself; a half-written pair is refused once and
    taken when it is whole. Switched off by a reload, nothing happens by itself any more.
    """
    crl = write_lists(tmp_path, revocation_list(pki.root))
    tables = configuration(secret, pki, backend, watch=True)
    tables["listeners"]["web"]["client_auth"]["crl"] = str(crl)
    balancer = run(tables)
    with closing(tls_client(balancer.port(), context)) as live:
        live.ping()
        secret.update(other)
        wait_until(lambda: shown(balancer, context) == other.der, "the new certificate is shown", 20)
        assert balancer.wait_event("reloaded", trigger="watch")["closed"] == "0"
        live.ping(b"still here" * 1000)

        mark = len(balancer.events())
        shutil.copy(pki.server.path, secret.folder / "tls.crt")
        balancer.wait_event("reload_refused", 20, since=mark, trigger="watch")
        shutil.copy(pki.server.key_path, secret.folder / "tls.key")
        wait_until(lambda: shown(balancer, context) == pki.server.der, "the renewed pair is shown", 20)

        mark = len(balancer.events())
        beside = write_lists(tmp_path, revocation_list(pki.root, pki.client, number=2))
        beside.replace(crl)
        live.read_to_end(20)
        assert balancer.wait_event("reloaded", since=mark, trigger="watch")["closed"] == "1"

    mark = len(balancer.events())
    tables["node"]["watch"] = False
    del tables["listeners"]["web"]["client_auth"]["crl"]
    balancer.rewrite(tables)
    balancer.wait_event("reloaded", 20, since=mark, trigger="watch")
    wait_until(lambda: not balancer.titled("nlb: watcher"), "the watcher ends")
    with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping()
