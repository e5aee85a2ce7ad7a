"""An ECDSA signature has a twin that is as valid, which anyone can work out (r, s and r, n - s): so whoever has a certificate has
another one of the same contents and key, with another fingerprint. What denies by serial number, public key, name or list
denies both; a fingerprint does not, which is why `nlb check` warns of it. Both count as one where connections are limited.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.forge import twin
from tests.support.lists import revocation_list, write_lists
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki


@pytest.fixture(scope="module")
def client(pki: Pki) -> Issued:
    return pki.root.client("twin", names=["twin.corp.example"])


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, client: Issued, module_folder: Path
) -> Balancer:
    def listener(**auth: object) -> dict[str, object]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth=auth)

    key = client.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    crl = write_lists(module_folder, revocation_list(pki.root, client))
    return balancer_for(
        {
            "listeners": {
                "serial": listener(deny=f"serial:{client.certificate.serial_number:x}"),
                "key": listener(deny=f"spki-sha256:{hashlib.sha256(key).hexdigest()}"),
                "name": listener(deny="dns:twin.corp.example"),
                "list": listener(crl=str(crl)),
                "fingerprint": listener(deny=f"sha256:{client.sha256}"),
                "limit": listener(max_connections_per_certificate=1),
                "pin": listener(allow=f"sha256:{client.sha256}"),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize("listener", ["serial", "key", "name", "list"])
def test_denied_with_its_twin(
    balancer: Balancer, backend: Backend, client: Issued, version: ssl.TLSVersion, listener: str
) -> None:
    backend.forget()
    for certificate in (client, twin(client)):
        one = TlsClient(balancer.port(listener), client_context(None, version, certificate))
        refusal(one)
        line = balancer.line(one)
        assert line["termination"] == ("revoked" if listener == "list" else "denied")
        assert line["client_cert_sha256"] == certificate.sha256
    assert backend.accepted == 0


def test_a_fingerprint_is_that_of_one_of_them(balancer: Balancer, client: Issued, version: ssl.TLSVersion) -> None:
    """Pinned: the twin is nobody. Denied: it is let in, of which `nlb check` warns."""
    for listener, welcome, refused in (("pin", client, twin(client)), ("fingerprint", twin(client), client)):
        with TlsClient(balancer.port(listener), client_context(None, version, welcome)) as one:
            one.handshake().ping()
        refusal(TlsClient(balancer.port(listener), client_context(None, version, refused)))
    said = nlb("check", "-c", balancer.path).stdout.splitlines()
    warnings = [line for line in said if "sha256 fingerprint" in line]
    assert len(warnings) == 1, said
    assert "warning: listeners.fingerprint.client_auth.deny:" in warnings[0]


def test_counted_with_its_twin(balancer: Balancer, pki: Pki, client: Issued, version: ssl.TLSVersion) -> None:
    """The limit is for both together; a certificate that has been renewed, with the same key, has one of its own."""
    renewed = pki.root.client("twin", names=["twin.corp.example"], key=client.key)
    with TlsClient(balancer.port("limit"), client_context(None, version, client)) as first:
        first.handshake().ping()
        for certificate in (client, twin(client)):
            with TlsClient(balancer.port("limit"), client_context(None, version, certificate)) as second:
                second.handshake()
                assert second.read_to_end(5)[0] == b""
                line = balancer.line(second)
            assert (line["termination"], line["client_cert_sha256"]) == ("connection_limit", certificate.sha256)
        with TlsClient(balancer.port("limit"), client_context(None, version, renewed)) as other:
            other.handshake().ping()
    balancer.line(first)
    with TlsClient(balancer.port("limit"), client_context(None, version, twin(client))) as alone:
        alone.handshake().ping()
