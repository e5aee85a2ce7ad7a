"""Several CAs for client certificates: in several files or in one, all are trusted, no other is; their names are advertised or not.
CAs of one name are told apart by the identifiers of their keys, and an intermediate alone is trusted as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority
from tests.support.programs import run
from tests.support.tls_client import TlsClient, client_context, refusal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def third(pki: Pki) -> Authority:
    """An authority that nobody trusts."""
    return Authority(pki.folder, "Third Root")


@pytest.fixture(scope="module")
def namesake(pki: Pki) -> Authority:
    """An authority with the root's name and a key of its own."""
    return Authority(pki.folder, "Test Root")


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, namesake: Authority) -> Balancer:
    """Two CAs in two files, and in one file; names not advertised on the latter; an intermediate beside its root."""
    bundle = pki.folder / "bundle.crt"
    bundle.write_bytes(pki.root.path.read_bytes() + pki.other.path.read_bytes())
    with_intermediate = [pki.root.path, pki.intermediate.path]
    return balancer_for(
        {
            "listeners": {
                "files": tls_listener(pki.server, ca=[pki.root.path, pki.other.path]),
                "bundle": tls_listener(pki.server, ca=bundle, client_auth={"advertise_ca_names": False}),
                "with_intermediate": tls_listener(pki.server, ca=with_intermediate),
                "equal_names": tls_listener(pki.server, ca=[pki.root.path, namesake.path]),
                "intermediate": tls_listener(pki.server, ca=pki.intermediate.path),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.mark.parametrize("listener", ["files", "bundle"])
def test_both_trusted(balancer: Balancer, pki: Pki, version: ssl.TLSVersion, listener: str) -> None:
    """A client of each; the log has the issuer."""
    for authority, name in ((pki.root, "Test Root"), (pki.other, "Other Root")):
        certificate = authority.client(f"of-{name}")
        with TlsClient(balancer.port(listener), client_context(pki.root.path, version, certificate)) as client:
            client.handshake().ping()
        assert name in balancer.line(client)["client_cert_issuer"]


@pytest.mark.parametrize("listener", ["files", "bundle"])
def test_third_refused(
    balancer: Balancer, backend: Backend, pki: Pki, third: Authority, version: ssl.TLSVersion, listener: str
) -> None:
    """Any other CA is unknown."""
    backend.forget()
    certificate = third.client(f"third-{listener}-{version.name}")
    client = TlsClient(balancer.port(listener), client_context(pki.root.path, version, certificate))
    assert refusal(client) == "TLSV1_ALERT_UNKNOWN_CA"
    assert balancer.line(client)["termination"] == "unknown_ca"
    assert backend.accepted == 0


def test_intermediate_in_ca(balancer: Balancer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A client that does not send its intermediate is let in where `ca` has it."""
    certificate = pki.intermediate.client("sends-no-chain", chain=())
    with TlsClient(balancer.port("with_intermediate"), client_context(pki.root.path, version, certificate)) as client:
        client.handshake().ping()


def test_equal_names(balancer: Balancer, pki: Pki, namesake: Authority, version: ssl.TLSVersion) -> None:
    """Clients of both; at the listener of one, not those of the other."""
    for authority in (pki.root, namesake):
        certificate = authority.client("of-one-of-two")
        with TlsClient(balancer.port("equal_names"), client_context(pki.root.path, version, certificate)) as client:
            client.handshake().ping()
    client = TlsClient(balancer.port("files"), client_context(pki.root.path, version, certificate))
    refusal(client)
    assert balancer.line(client)["termination"] == "unknown_ca"


def test_intermediate_alone(balancer: Balancer, backend: Backend, pki: Pki, version: ssl.TLSVersion) -> None:
    """Its clients, whatever they send; not the root's own, nor those of another intermediate."""
    for chain in (None, ()):
        certificate = pki.intermediate.client("below", chain=chain)
        with TlsClient(balancer.port("intermediate"), client_context(pki.root.path, version, certificate)) as client:
            client.handshake().ping()
    backend.forget()
    for certificate in (pki.client, pki.root.intermediate("Another").client("beside")):
        client = TlsClient(balancer.port("intermediate"), client_context(pki.root.path, version, certificate))
        refusal(client)
        assert balancer.line(client)["termination"] == "unknown_ca"
    assert backend.accepted == 0


@pytest.mark.parametrize(
    ("listener", "names"), [("files", ["Test Root", "Other Root"]), ("equal_names", ["Test Root"]), ("bundle", [])]
)
@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_names_advertised(balancer: Balancer, pki: Pki, listener: str, names: list[str], option: str) -> None:
    """What `openssl s_client` shows as acceptable names: each once."""
    done = run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{balancer.port(listener)}", option, "-CAfile", str(pki.root.path),
        "-cert", str(pki.client.path), "-key", str(pki.client.key_path), check=False,
    )  # fmt: skip
    text = done.stdout.decode()
    assert ("Acceptable client certificate CA names" in text) is bool(names)
    shown = text.partition("Acceptable client certificate CA names\n")[2].partition("\nRequested")[0]
    assert [line for line in shown.split("\n") if line.startswith("CN = ")] == [f"CN = {name}" for name in names]
