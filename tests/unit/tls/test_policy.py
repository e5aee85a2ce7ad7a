"""The five policies are the table of the Alibaba page, and what OpenSSL lacks is what handshakes say it lacks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from nlbcore.config import values
from nlbcore.tls import policy as module
from nlbcore.tls.policy import POLICIES, VERSIONS, Policy, missing_suites, missing_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = """\
TLSv1.0                        Y - - - -
TLSv1.1                        Y Y - - -
TLSv1.2                        Y Y Y Y Y
TLSv1.3                        - - - - Y
ECDHE-ECDSA-AES128-GCM-SHA256  Y Y Y Y Y
ECDHE-ECDSA-AES256-GCM-SHA384  Y Y Y Y Y
ECDHE-ECDSA-AES128-SHA256      Y Y Y Y Y
ECDHE-ECDSA-AES256-SHA384      Y Y Y Y Y
ECDHE-RSA-AES128-GCM-SHA256    Y Y Y Y Y
ECDHE-RSA-AES256-GCM-SHA384    Y Y Y Y Y
ECDHE-RSA-AES128-SHA256        Y Y Y Y Y
ECDHE-RSA-AES256-SHA384        Y Y Y Y Y
ECDHE-ECDSA-AES128-SHA         Y Y Y Y Y
ECDHE-ECDSA-AES256-SHA         Y Y Y Y Y
ECDHE-RSA-AES128-SHA           Y Y Y Y Y
ECDHE-RSA-AES256-SHA           Y Y Y Y Y
AES128-GCM-SHA256              Y Y Y - -
AES256-GCM-SHA384              Y Y Y - -
AES128-SHA256                  Y Y Y - -
AES256-SHA256                  Y Y Y - -
AES128-SHA                     Y Y Y - -
AES256-SHA                     Y Y Y - -
DES-CBC3-SHA                   Y Y Y - -
TLS_AES_128_GCM_SHA256         - - - - Y
TLS_AES_256_GCM_SHA384         - - - - Y
TLS_CHACHA20_POLY1305_SHA256   - - - - Y
TLS_AES_128_CCM_SHA256         - - - - Y
TLS_AES_128_CCM_8_SHA256       - - - - Y
"""
NAMES = (
    "tls_cipher_policy_1_0",
    "tls_cipher_policy_1_1",
    "tls_cipher_policy_1_2",
    "tls_cipher_policy_1_2_strict",
    "tls_cipher_policy_1_2_strict_with_1_3",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_table(name: str) -> None:
    column = NAMES.index(name) + 1
    wanted = [line.split()[0] for line in TABLE.splitlines() if line.split()[column] == "Y"]
    policy = POLICIES[name]
    assert [*policy.versions, *policy.suites, *policy.tls13_suites] == wanted


def test_the_configuration_knows_these_policies() -> None:
    assert values.POLICIES == NAMES == tuple(POLICIES)


def offered(policy: Policy) -> list[str]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(policy.cipher_list.encode())
    if policy.ciphersuites:
        context.set_tls13_ciphersuites(policy.ciphersuites.encode())
    return SSL.Connection(context).get_cipher_list()


@pytest.mark.parametrize("name", NAMES)
def test_openssl_agrees_about_what_it_lacks(name: str) -> None:
    policy = POLICIES[name]
    have = [suite for suite in offered(policy) if policy.ciphersuites or not suite.startswith("TLS_")]
    lacking = missing_suites(policy)
    assert have == [suite for suite in (*policy.tls13_suites, *policy.suites) if suite not in lacking]


def test_the_first_choice() -> None:
    assert offered(POLICIES["tls_cipher_policy_1_2_strict_with_1_3"])[0] == "TLS_AES_128_GCM_SHA256"


def test_a_suite_that_no_openssl_has_is_missing() -> None:
    policy = Policy(
        "x", "TLSv1.2", "TLSv1.3", ("AES128-SHA", "NO-SUCH-SUITE"), ("TLS_AES_128_GCM_SHA256", "TLS_NO_SUCH_SUITE")
    )
    assert missing_suites(policy) == ("NO-SUCH-SUITE", "TLS_NO_SUCH_SUITE")


def test_missing_versions() -> None:
    assert missing_versions(Policy("x", "TLSv1.2", "TLSv1.3", ("AES128-SHA",), ("TLS_AES_128_GCM_SHA256",))) == ()
    # A suite of TLS 1.2 only: the older version has nothing to speak with.
    assert missing_versions(Policy("x", "TLSv1.1", "TLSv1.2", ("AES128-SHA256",), any_level=True)) == ("TLSv1.1",)


def handshake(policy: Policy, version: int, server: Any, key: Any) -> str:
    """The version that a server with this policy and a client that speaks one version only agree on; empty if none."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(VERSIONS[policy.min_version])
    context.set_max_proto_version(VERSIONS[policy.max_version])
    context.set_cipher_list(policy.cipher_list.encode())
    context.use_certificate(server)
    context.use_privatekey(key)
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client_context.set_min_proto_version(version)
    client_context.set_max_proto_version(version)
    client_context.set_cipher_list(b"ALL:@SECLEVEL=0")
    ends = [SSL.Connection(context), SSL.Connection(client_context)]
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    for _ in range(6):
        for here, there in (ends, ends[::-1]):
            try:
                here.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return ""
            with contextlib.suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(65536))
    return ends[1].get_protocol_version_name()


@pytest.mark.parametrize("name", NAMES)
def test_each_policy_speaks_its_versions_and_no_other(name: str, pki: object) -> None:
    policy = POLICIES[name]
    missing = missing_versions(policy)
    for text, number in VERSIONS.items():
        agreed = handshake(policy, number, pki.server.certificate, pki.server.key)  # type: ignore[attr-defined]
        expected = text.replace("TLSv1.0", "TLSv1") if text in policy.versions and text not in missing else ""
        assert agreed == expected, text


def test_groups_are_known_to_openssl() -> None:
    assert module.GROUPS[0] == "X25519MLKEM768"
    assert POLICIES["tls_cipher_policy_1_2"].group_list == ":".join(module.GROUPS)
    lacking = Policy("x", "TLSv1.2", "TLSv1.3", (), groups=("NO-SUCH", "X25519"))
    assert lacking.group_list == "X25519", "what an older OpenSSL lacks is left out"


@pytest.mark.parametrize(
    ("group", "versions"),
    [
        ("X25519", VERSIONS),
        ("P-521", VERSIONS),
        ("X25519MLKEM768", ["TLSv1.3"]),
        ("ffdhe2048", ["TLSv1.3"]),
        ("brainpoolP256r1", ["TLSv1.0", "TLSv1.1", "TLSv1.2"]),
        ("NO-SUCH", []),
    ],
)
def test_versions_in_which_a_group_can_be_agreed_on(group: str, versions: Iterable[str]) -> None:
    assert [version for version in VERSIONS if module.group_works(group, version)] == list(versions)


def test_a_group_is_a_name_and_no_syntax() -> None:
    for name in ("", "X25519:P-256", "?NO-SUCH", "DEFAULT:X25519", "*X25519", "NO-SUCH"):
        assert not module.has_group(name), name
    assert module.has_group("x25519")
