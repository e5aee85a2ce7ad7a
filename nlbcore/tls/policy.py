"""The built-in security policies: TLS versions and cipher suites by name, and what the OpenSSL in use can do of them.

Names, versions and suites are those of the Alibaba Cloud NLB page "TLS security policies"; the five TLS 1.3 suites are
those of its CreateSecurityPolicy reference. The order is the server's preference.

What OpenSSL lacks is asked of it, never listed here: builds differ (most leave 3DES out), and so do releases. The question
is put by beginning a handshake as a client that knows one suite only, which fails at once if the suite cannot be used.

TLS_AES_128_CCM_8_SHA256 is a case of its own: OpenSSL has it, and at the security level of the policy does not use it,
because its tag has 64 bits only. It stays in the list and is no finding; the level is worth more than the suite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

VERSIONS = {
    "TLSv1.0": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
"""Oldest first."""

GROUPS = ("X25519MLKEM768", "X25519", "P-256", "P-384", "P-521")
"""Key agreement in order of preference; the first is hybrid: safe if either X25519 or ML-KEM is. The last is there for clients
of TLS 1.2 with a certificate on that curve: OpenSSL refuses a curve that is not among the groups."""

_STRICT = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
)
_ALL = (
    *_STRICT,
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA256",
    "AES256-SHA256",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
)
TLS13_SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)
ANY_LEVEL = "@SECLEVEL=0"
"""In OpenSSL 3 and later, TLS 1.0 and 1.1 exist at this security level only."""

LEVEL = "@SECLEVEL=2"
"""OpenSSL's own default, said all the same: a live front context would else keep the level of an earlier policy."""


SUPPORTED_GROUPS = b"\x00\x0a"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a listener offers.

    Attributes:
        min_version: the oldest TLS version, a key of VERSIONS.
        max_version: the newest one.
        suites: cipher suites up to TLS 1.2, by OpenSSL's names, in order of preference.
        tls13_suites: cipher suites of TLS 1.3, likewise; empty if the policy has no TLS 1.3.
        any_level: lift OpenSSL's security level, which the oldest versions need. It also lifts OpenSSL's own rule about
            weak keys: the engine has one that always holds.
        groups: key agreement, in order of preference.
    """

    name: str
    min_version: str
    max_version: str
    suites: tuple[str, ...]
    tls13_suites: tuple[str, ...] = ()
    any_level: bool = False
    groups: tuple[str, ...] = GROUPS

    @property
    def cipher_list(self) -> str:
        """What `SSL_CTX_set_cipher_list` takes. Suites that OpenSSL lacks are skipped by it; it must not be left with none, so
        that a policy of TLS 1.3 only has some that its versions never come to.
        """
        return ":".join((*(self.suites or ("DEFAULT",)), self.level))

    @property
    def level(self) -> str:
        """OpenSSL's security level, as its cipher lists say it."""
        return ANY_LEVEL if self.any_level else LEVEL

    @property
    def ciphersuites(self) -> str:
        """What `SSL_CTX_set_ciphersuites` takes."""
        return ":".join(self.tls13_suites)

    @property
    def group_list(self) -> str:
        """What `SSL_CTX_set1_curves_list` takes: those that OpenSSL has; all of them, to be refused, if it has none."""
        return ":".join([group for group in self.groups if has_group(group)] or self.groups)

    @property
    def versions(self) -> tuple[str, ...]:
        names = list(VERSIONS)
        return tuple(names[names.index(self.min_version) : names.index(self.max_version) + 1])


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("tls_cipher_policy_1_0", "TLSv1.0", "TLSv1.2", _ALL, any_level=True),
        Policy("tls_cipher_policy_1_1", "TLSv1.1", "TLSv1.2", _ALL, any_level=True),
        Policy("tls_cipher_policy_1_2", "TLSv1.2", "TLSv1.2", _ALL),
        Policy("tls_cipher_policy_1_2_strict", "TLSv1.2", "TLSv1.2", _STRICT),
        Policy("tls_cipher_policy_1_2_strict_with_1_3", "TLSv1.2", "TLSv1.3", _STRICT, TLS13_SUITES),
    )
}


def missing_suites(policy: Policy) -> tuple[str, ...]:
    """The suites of a policy that the OpenSSL in use lacks."""
    older = min(policy.max_version, "TLSv1.2")
    lacking = [suite for suite in policy.suites if not works(suite, older, ANY_LEVEL)]
    return (*lacking, *(suite for suite in policy.tls13_suites if not works(suite, "TLSv1.3", ANY_LEVEL)))


def missing_versions(policy: Policy) -> tuple[str, ...]:
    """The TLS versions of a policy that the OpenSSL in use cannot speak."""
    return tuple(
        version
        for version in policy.versions
        if not any(
            works(suite, version, policy.level)
            for suite in (policy.tls13_suites if version == "TLSv1.3" else policy.suites)
        )
    )


@cache
def works(suite: str, version: str, level: str) -> bool:
    """Whether the OpenSSL in use would agree on a suite in that version, at that security level."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(VERSIONS[version])
    context.set_max_proto_version(VERSIONS[version])
    try:
        if version == "TLSv1.3":
            context.set_cipher_list(f"ALL:{level}".encode())
            context.set_tls13_ciphersuites(suite.encode())
        else:
            context.set_cipher_list(f"{suite}:{level}".encode())
        connection = SSL.Connection(context)
        connection.set_connect_state()
        connection.do_handshake()
    except SSL.WantReadError:
        return True
    except SSL.Error:
        return False
    return False


@cache
def has_group(name: str) -> bool:
    """Whether the OpenSSL in use knows a key agreement group of exactly that name (the syntax of lists is none)."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return False
    made: Any = SSL.Context(SSL.TLS_SERVER_METHOD)
    known: bool = _openssl.lib.SSL_CTX_set1_curves_list(made._context, name.encode()) == 1  # noqa: SLF001
    _openssl.lib.ERR_clear_error()
    return known


@cache
def group_works(name: str, version: str) -> bool:
    """Whether the OpenSSL in use would agree on a group in that version: whether a client that has no other offers any."""
    context: Any = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(VERSIONS[version])
    context.set_max_proto_version(VERSIONS[version])
    context.set_cipher_list(f"ECDHE:{ANY_LEVEL}".encode())
    if _openssl.lib.SSL_CTX_set1_curves_list(context._context, name.encode()) != 1:  # noqa: SLF001
        _openssl.lib.ERR_clear_error()
        return False
    connection = SSL.Connection(context)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return _offers_groups(connection.bio_read(65536))
    except SSL.Error:
        return False
    return False


def _offers_groups(hello: bytes) -> bool:
    """Whether a ClientHello has the extension supported_groups (RFC 8446, 4.1.2), behind the headers of record and message."""
    at = 5 + 4 + 2 + 32
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(hello[at : at + width], "big")
    at += 2
    while at < len(hello):
        if hello[at : at + 2] == SUPPORTED_GROUPS:
            return True
        at += 4 + int.from_bytes(hello[at + 2 : at + 4], "big")
    return False
