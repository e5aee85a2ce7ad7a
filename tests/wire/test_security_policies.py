"""The five built-in security policies: exactly the versions and suites of the reference's table, and the order of preference.

A suite that the OpenSSL in use lacks is named by `nlb check`; every other one of the table works, and none beside it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.programs import run
from tests.support.tls_client import TLS12, TLS13, Ended, TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

TLS10, TLS11 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
VERSIONS = {
    "tls_cipher_policy_1_0": {TLS10, TLS11, TLS12},
    "tls_cipher_policy_1_1": {TLS11, TLS12},
    "tls_cipher_policy_1_2": {TLS12},
    "tls_cipher_policy_1_2_strict": {TLS12},
    "tls_cipher_policy_1_2_strict_with_1_3": {TLS12, TLS13},
}
FORWARD_SECRET = [
    f"ECDHE-{kind}-{suite}"
    for kind in ("ECDSA", "RSA")
    for suite in (
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA256",
        "AES256-SHA384",
        "AES128-SHA",
        "AES256-SHA",
    )
]
STATIC = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA256", "AES256-SHA256", "AES128-SHA", "AES256-SHA"]
NEVER = [
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "DHE-RSA-AES128-GCM-SHA256",
    "AES128-CCM",
    "CAMELLIA128-SHA",
    "NULL-SHA256",
]
SUITES_13 = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
]


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    """A listener per policy, with an ECDSA and an RSA certificate for the same name."""
    rsa = pki.root.server("www.example.com", key="rsa-2048")
    listeners = {policy: tls_listener(pki.server, rsa, security_policy=policy) for policy in VERSIONS}
    listeners["default"] = tls_listener(pki.server, rsa)
    running = balancer_for({"listeners": listeners, "server_groups": {"app": server_group(backend)}})
    running.expected_stderr = lambda text: all("warning" in line for line in text.splitlines())  # missing suites
    return running


def agreed(port: int, context: ssl.SSLContext) -> tuple[str, str] | None:
    """Version and suite that come out of a handshake; None when it is refused."""
    with TlsClient(port, context) as client:
        try:
            client.handshake()
        except (ssl.SSLError, Ended):
            return None
        cipher = client.tls.cipher()
        assert cipher is not None
        return str(client.tls.version()), cipher[0]


@pytest.mark.parametrize("policy", [*VERSIONS, "default"])
def test_versions(balancer: Balancer, pki: Pki, policy: str) -> None:
    """Each version offered alone; the default policy is the strict one with TLS 1.3."""
    accepted = {
        version
        for version in (TLS10, TLS11, TLS12, TLS13)
        if agreed(balancer.port(policy), client_context(pki.root.path, version)) is not None
    }
    assert accepted == VERSIONS.get(policy, {TLS12, TLS13})


@pytest.mark.parametrize("policy", VERSIONS)
def test_suites_of_tls_1_2(balancer: Balancer, pki: Pki, policy: str) -> None:
    """Each suite offered alone."""
    expected = FORWARD_SECRET if "strict" in policy else FORWARD_SECRET + STATIC
    accepted = []
    for suite in FORWARD_SECRET + STATIC + NEVER:
        result = agreed(balancer.port(policy), client_context(pki.root.path, TLS12, ciphers=suite))
        if result is not None:
            assert result == ("TLSv1.2", suite)
            accepted.append(suite)
    assert accepted == expected


def test_suites_of_tls_1_0(balancer: Balancer, pki: Pki) -> None:
    """The suites that TLS 1.0 has, under the policy that speaks it."""
    for suite in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "AES128-SHA"):
        context = client_context(pki.root.path, TLS10, ciphers=suite)
        assert agreed(balancer.port("tls_cipher_policy_1_0"), context) == ("TLSv1", suite)


def test_suites_of_tls_1_3(balancer: Balancer, pki: Pki) -> None:
    """Each suite offered alone by `openssl s_client`: all but the one with the short tag, as docs/options.md says."""
    policy = "tls_cipher_policy_1_2_strict_with_1_3"
    accepted = []
    for suite in SUITES_13:
        done = run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{balancer.port(policy)}", "-tls1_3", "-ciphersuites", suite,
            "-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile", str(pki.root.path), check=False,
        )  # fmt: skip
        if f"Cipher is {suite}".encode() in done.stdout:
            accepted.append(suite)
    assert accepted == [suite for suite in SUITES_13 if suite != "TLS_AES_128_CCM_8_SHA256"]


def test_missing_suites_are_named(balancer: Balancer) -> None:
    """3DES is in three policies and not in this OpenSSL: `nlb check` says so, as a warning."""
    checked = nlb("check", "-c", balancer.path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lines = [line for line in (checked.stdout + checked.stderr).splitlines() if "DES-CBC3-SHA" in line]
    assert len(lines) >= 3
    assert all("warning" in line for line in lines)


def test_server_prefers(balancer: Balancer, pki: Pki) -> None:
    """The balancer's order counts, not the client's: AES-128-GCM first, on both versions."""
    port = balancer.port("default")
    backwards = client_context(
        pki.root.path, TLS12, ciphers="ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    assert agreed(port, backwards) == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert agreed(port, client_context(pki.root.path, TLS13)) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256")


def test_newest_version_wins(balancer: Balancer, pki: Pki) -> None:
    """A client that can do both gets TLS 1.3 where the policy has it, else 1.2."""
    context = client_context(pki.root.path, (TLS10, TLS13))
    for policy in VERSIONS:
        result = agreed(balancer.port(policy), context)
        assert result is not None
        assert result[0] == ("TLSv1.3" if policy.endswith("1_3") else "TLSv1.2")
