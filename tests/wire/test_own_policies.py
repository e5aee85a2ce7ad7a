"""`[security_policies.NAME]`: what it names is what is agreed on, in its order, and a reload changes it for new handshakes."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.programs import run
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context
from tests.wire.test_security_policies import TLS11, agreed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

CHACHA, EC256, OLD = "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"
NEW, NEW256 = "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"
POLICIES: dict[str, dict[str, Any]] = {
    "both": {"ciphers": [CHACHA, EC256, NEW, NEW256]},
    "new": {"tls_versions": ["TLSv1.3"], "ciphers": [NEW256], "groups": ["P-384"]},
    "old": {"tls_versions": ["TLSv1.1", "TLSv1.2"], "ciphers": [OLD, EC256]},
}


def tables(pki: Pki, backend: Backend, policies: dict[str, dict[str, Any]], **listeners: Any) -> dict[str, Any]:
    made = {
        name: tls_listener(pki.server, ca=pki.root.path, security_policy=name, **listeners.get(name, {}))
        for name in policies
    }
    return {"security_policies": policies, "listeners": made, "server_groups": {"app": server_group(backend)}}


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    return balancer_for(tables(pki, backend, POLICIES))


@pytest.mark.parametrize(
    ("policy", "version", "ciphers", "result"),
    [
        ("both", TLS12, "DEFAULT", ("TLSv1.2", CHACHA)),
        ("both", TLS12, EC256, ("TLSv1.2", EC256)),
        ("both", TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ("both", TLS13, "DEFAULT", ("TLSv1.3", NEW)),
        ("both", TLS11, "DEFAULT:@SECLEVEL=0", None),
        ("new", TLS12, "DEFAULT", None),
        ("new", TLS13, "DEFAULT", ("TLSv1.3", NEW256)),
        ("old", TLS13, "DEFAULT", None),
        ("old", TLS12, "DEFAULT", ("TLSv1.2", OLD)),
        ("old", TLS11, "DEFAULT:@SECLEVEL=0", ("TLSv1.1", OLD)),
    ],
)
def test_agreed(
    balancer: Balancer,
    pki: Pki,
    policy: str,
    version: ssl.TLSVersion,
    ciphers: str,
    result: tuple[str, str] | None,
) -> None:
    context = client_context(pki.root.path, version, pki.client, ciphers=ciphers)
    assert agreed(balancer.port(policy), context) == result


@pytest.mark.parametrize(
    ("policy", "offered", "group"),
    [("both", "X25519", "X25519"), ("new", "X25519:P-384", "P-384, secp384r1"), ("new", "X25519", None)],
)
def test_groups(balancer: Balancer, pki: Pki, policy: str, offered: str, group: str | None) -> None:
    """As `openssl s_client` sees it; the hybrid one, which it may not know, is in test_key_exchange_groups."""
    done = run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{balancer.port(policy)}", "-tls1_3", "-groups", offered,
        "-CAfile", str(pki.root.path), check=False,
    ).stdout.decode()  # fmt: skip
    found = re.search(r"Server Temp Key: (?:ECDH, )?(.*?), \d+ bits|Negotiated TLS1.3 group: (.*)", done)
    assert (found is not None) is (group is not None), done
    assert found is None or (found[1] or found[2]) in str(group)


def test_a_reload_changes_it(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """For new handshakes, on the front context that lives on. Live connections go on; a session with a suite that is not
    offered any more is not resumed.
    """
    policies = {"own": {"tls_versions": ["TLSv1.2"], "ciphers": [OLD, EC256]}}
    before = tables(pki, backend, policies)
    with Balancer(tmp_path, before) as balancer:
        port, context = balancer.port("own"), client_context(pki.root.path, (TLS12, TLS13), pki.client)
        with TlsClient(port, context) as live:
            live.handshake().ping()
            session = live.session
            with TlsClient(port, context, session=session) as client:
                client.handshake().ping()
                assert client.resumed
            policies["own"] = {"tls_versions": ["TLSv1.2", "TLSv1.3"], "ciphers": [EC256, NEW]}
            balancer.rewrite({**before, "security_policies": policies})
            answer = balancer.reload()
            assert any("security_policies.own" in text for text in answer["changes"]), answer
            live.ping()
        assert agreed(port, context) == ("TLSv1.3", NEW)
        old = client_context(pki.root.path, TLS12, pki.client)
        with TlsClient(port, context, session=session) as client:
            client.handshake().ping()
            assert not client.resumed
        assert agreed(port, old) == ("TLSv1.2", EC256)
        policies["own"] = {"tls_versions": ["TLSv1.3"], "ciphers": [NEW]}
        balancer.rewrite({**before, "security_policies": policies})
        balancer.reload()
        assert agreed(port, old) is None
        assert agreed(port, context) == ("TLSv1.3", NEW)


def test_check_says_what_is_wrong(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """With file and line; and a policy that the certificate cannot serve."""
    path = tmp_path / "nlb.toml"
    path.write_text(
        f'[listeners.web]\nbind = "127.0.0.1:4433"\nserver_group = "app"\nsecurity_policy = "own"\n'
        f'certificates = [{{ certificate = "{pki.server.path}", private_key = "{pki.server.key_path}" }}]\n'
        f'[server_groups.app]\nservers = [{{ address = "{backend.address}" }}]\n'
        '[security_policies.own]\ntls_versions = ["TLSv1.2"]\nciphers = ["ECDHE-RSA-AES128-GCM-SHA256", "RC4-MD5"]\n'
    )
    done = nlb("check", "-c", path)
    assert done.returncode == 78
    assert re.search(
        r"nlb.toml:10:43: error: security_policies.own.ciphers\[1\]: the OpenSSL in use .* has no suite RC4-MD5",
        done.stdout,
    )
    path.write_text(path.read_text().replace(', "RC4-MD5"', ""))
    done = nlb("check", "-c", path)
    assert done.returncode == 78
    assert "nlb.toml:4:19: error: listeners.web.security_policy: own: no client of TLSv1.2 can be served" in done.stdout
