"""`strict = true`: chains that OpenSSL lets pass and RFC 5280 does not are refused; without it they are let in. Certificates
that keep to it are let in by both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.programs import run
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki


@pytest.fixture(scope="module")
def loose_root(module_folder: Path) -> Path:
    """A v1 root, as `openssl x509 -req -signkey` makes it, and a client of it."""
    (module_folder / "client.ext").write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")
    for step in (
        "openssl ecparam -name prime256v1 -genkey -noout -out root.key",
        "openssl req -new -key root.key -subj /CN=v1-root -out root.csr",
        "openssl x509 -req -in root.csr -out root.crt -signkey root.key -days 30",
        "openssl ecparam -name prime256v1 -genkey -noout -out client.key",
        "openssl req -new -key client.key -subj /CN=client-1 -out client.csr",
        "openssl x509 -req -in client.csr -out client.crt -CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile client.ext",
    ):
        run(*step.split(), cwd=module_folder)
    return module_folder / "root.crt"


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, loose_root: Path) -> Balancer:
    """The same two CAs, by the book and not."""
    ca = [pki.root.path, loose_root]
    return balancer_for(
        {
            "listeners": {
                "loose": tls_listener(pki.server, ca=ca),
                "strict": tls_listener(pki.server, ca=ca, client_auth={"strict": True}),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize("listener", ["loose", "strict"])
def test_by_the_book(balancer: Balancer, pki: Pki, version: ssl.TLSVersion, listener: str) -> None:
    for certificate in (pki.client, pki.intermediate.client("below")):
        with TlsClient(balancer.port(listener), client_context(pki.root.path, version, certificate)) as client:
            client.handshake().ping()


def test_a_root_without_extensions(
    balancer: Balancer, backend: Backend, pki: Pki, loose_root: Path, version: ssl.TLSVersion
) -> None:
    context = client_context(pki.root.path, version)
    context.load_cert_chain(loose_root.parent / "client.crt", loose_root.parent / "client.key")
    with TlsClient(balancer.port("loose"), context) as client:
        client.handshake().ping()
        session = client.session
    backend.forget()
    for offered in (None, session):
        client = TlsClient(balancer.port("strict"), context, session=offered)
        assert "ALERT" in refusal(client)
        assert balancer.line(client)["termination"] == "wrong_purpose", "no CA"
    assert backend.accepted == 0


def test_a_client_that_does_not_say_whose_it_is(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Without the identifier of its issuer's key."""
    certificate: Issued = pki.root.client("says-nothing", says_whose_key=False)
    context = client_context(pki.root.path, version, certificate)
    with TlsClient(balancer.port("loose"), context) as client:
        client.handshake().ping()
    client = TlsClient(balancer.port("strict"), context)
    refusal(client)
    assert balancer.line(client)["termination"] == "bad_certificate"
