"""A root that `openssl x509 -req -signkey` made is an X.509 v1 certificate. As a CA it works (certificates made elsewhere work),
as a client such a certificate never does: a v1 client is refused although its CA is trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.programs import run
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.support.certs import Pki

STEPS = """\
openssl ecparam -name prime256v1 -genkey -noout -out root.key
openssl req -new -key root.key -subj /CN=v1-root -out root.csr
openssl x509 -req -in root.csr -out root.crt -signkey root.key -days 30
openssl ecparam -name prime256v1 -genkey -noout -out client.key
openssl req -new -key client.key -subj /CN=client-1 -out client.csr
openssl x509 -req -in client.csr -out client.crt -CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile client.ext
"""


def test_version_1_root(tmp_path: Path, pki: Pki) -> None:
    """A client under a v1 root is let in."""
    (tmp_path / "client.ext").write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")
    for step in STEPS.splitlines():
        run(*step.split(), cwd=tmp_path)
    root = x509.load_pem_x509_certificate((tmp_path / "root.crt").read_bytes())
    assert root.version is x509.Version.v1, root.public_bytes(serialization.Encoding.PEM)
    context = client_context(pki.root.path, None)
    context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    with (
        Backend() as backend,
        Balancer(
            tmp_path,
            {
                "listeners": {"web": tls_listener(pki.server, ca=tmp_path / "root.crt")},
                "server_groups": {"app": server_group(backend)},
            },
        ) as balancer,
        TlsClient(balancer.port(), context) as client,
    ):
        client.handshake().ping()


def test_version_1_client(web: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """A v1 client certificate, well signed by the trusted root, is refused."""
    backend.forget()
    certificate = pki.root.openssl_client("version-1", version_1=True)
    client = TlsClient(web.port(), client_context(pki.root.path, version, certificate))
    refusal(client)
    line = web.line(client)
    assert line["termination"] in {"bad_certificate", "wrong_purpose"}
    assert line["client_cert_proven"] is False
    assert backend.accepted == 0
