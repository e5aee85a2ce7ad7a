"""Security policies that the operator writes, `[security_policies.NAME]`: made from the configuration, and judged.

Unlike a built-in one, which serves what the OpenSSL in use has of it, an operator's policy is served whole or refused: each
suite and group in it was asked for by name. What only depends on the policy is told once, where it stands; what depends on
the certificates too (suites for ECDSA only, a certificate with an RSA key) is told of each listener.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from OpenSSL import SSL

from nlbcore.config.finding import did_you_mean
from nlbcore.tls.policy import (
    ANY_LEVEL,
    LEVEL,
    POLICIES,
    TLS13_SUITES,
    VERSIONS,
    Policy,
    group_works,
    has_group,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nlbcore.config.finding import KeyPath, Severity
    from nlbcore.config.model import SecurityPolicy

    Remark = tuple[KeyPath, Severity, str, str]  # key in the policy's table, severity, sentence, hint

WELL_KNOWN_GROUPS = (
    *("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "X448", "P-256", "P-384", "P-521"),
    *("ffdhe2048", "ffdhe3072", "ffdhe4096"),
)
"""For suggestions only: what exists is asked of OpenSSL."""


def policy_named(name: str, custom: Mapping[str, SecurityPolicy]) -> Policy:
    """The policy that a listener names; the default one in place of one that is not there, which is an error elsewhere."""
    if name in custom and name not in POLICIES:
        return made(name, custom[name])
    return POLICIES.get(name) or list(POLICIES.values())[-1]


def made(name: str, table: SecurityPolicy) -> Policy:
    """What a table asks for, whether or not that can work."""
    ordered = sorted(table.tls_versions, key=list(VERSIONS).index)
    groups = table.groups
    if "groups" not in table.model_fields_set:
        groups = tuple(group for group in groups if has_group(group))
    return Policy(
        name,
        ordered[0],
        ordered[-1],
        tuple(suite for suite in table.ciphers if not _is_13(suite)),
        tuple(suite for suite in table.ciphers if _is_13(suite)),
        any_level=list(VERSIONS).index(ordered[0]) < list(VERSIONS).index("TLSv1.2"),
        groups=groups,
    )


def remarks(name: str, table: SecurityPolicy) -> Iterator[Remark]:
    """What is wrong with a policy in itself."""
    policy = made(name, table)
    yield from _versions(table)
    for key in ("tls_versions", "ciphers", "groups"):
        yield from _twice(key, getattr(table, key))
    known = [suite for suite in table.ciphers if suite in usable_suites()]
    for index, suite in enumerate(table.ciphers):
        if suite in known:
            yield from _idle(("ciphers", index), suite, policy)
        else:
            yield ("ciphers", index), "error", *_unusable(suite)
    for version in policy.versions if known == list(table.ciphers) else ():
        if version in table.tls_versions and not any(works(suite, version, policy.level) for suite in known):
            yield (
                ("ciphers",),
                "error",
                f"{version} is in `tls_versions`, but none of these suites is one of it",
                _example(version),
            )
    for index, group in enumerate(table.groups):
        if not has_group(group):
            hint = did_you_mean(group, [one for one in WELL_KNOWN_GROUPS if has_group(one)])
            yield ("groups", index), "error", f"the OpenSSL in use ({_release()}) has no group {group}", hint
    yield from _groupless(table, policy)


def certificate_remark(policy: Policy, key_types: Iterable[str]) -> tuple[Severity, str] | None:
    """Whom certificates with such keys cannot serve under a policy: a sentence about the versions in question."""
    kinds = {"RSA" if kind == "RSA" else "ECDSA" for kind in key_types}
    lost = [
        version
        for version in policy.versions
        if version != "TLSv1.3"
        and (able := [suite for suite in policy.suites if works(suite, version, policy.level)])
        and not kinds & {_signs(suite) for suite in able}
    ]
    if not lost or not kinds:
        return None
    (lacking,) = {"RSA", "ECDSA"} - kinds
    text = f"no client of {' or '.join(lost)} can be served: its suites there need a certificate with an {lacking} key"
    return ("error" if lost == list(policy.versions) else "warning"), text


@cache
def usable_suites() -> frozenset[str]:
    """The suites that a server with a certificate can offer, of all that the OpenSSL in use has.

    Not those without a certificate or encryption, nor those that need shared secrets or Diffie-Hellman parameters.
    """
    older = _listed("ALL:!aNULL:!eNULL:!PSK:!SRP:!aDSS:!kDHE")
    return frozenset(
        [*(suite for suite in older if not suite.startswith("TLS_"))]
        + [suite for suite in TLS13_SUITES if works(suite, "TLSv1.3", ANY_LEVEL)]
    )


def _versions(table: SecurityPolicy) -> Iterator[Remark]:
    order = list(VERSIONS)
    places = sorted({order.index(version) for version in table.tls_versions})
    between = [order[place] for place in range(places[0], places[-1]) if place not in places]
    if between:
        text = f"{' and '.join(between)} cannot be left out between {order[places[0]]} and {order[places[-1]]}"
        yield ("tls_versions",), "error", text, ""
    for place, version in enumerate(table.tls_versions):
        lowest = ANY_LEVEL if order.index(version) < order.index("TLSv1.2") else LEVEL
        if not any(works(suite, version, lowest) for suite in usable_suites()):
            yield ("tls_versions", place), "error", f"the OpenSSL in use ({_release()}) cannot speak {version}", ""


def _groupless(table: SecurityPolicy, policy: Policy) -> Iterator[Remark]:
    """Versions in which no client could agree on a key, as it needs a group for each suite there."""
    if not all(has_group(group) for group in policy.groups):
        return
    for version in policy.versions:
        able = [suite for suite in table.ciphers if suite in usable_suites() and works(suite, version, policy.level)]
        free = [suite for suite in able if not (_is_13(suite) or suite.startswith("ECDHE-"))]
        if version not in table.tls_versions or not able or free:
            continue
        if not any(group_works(group, version) for group in policy.groups):
            yield (
                ("groups",),
                "error",
                f"{version} is in `tls_versions`, but none of these groups is one of it",
                "as in X25519",
            )


def _twice(key: str, items: tuple[str, ...]) -> Iterator[Remark]:
    for index, item in enumerate(items):
        if item in items[:index]:
            yield (key, index), "error", f"{item} stands here twice", ""


def _idle(path: KeyPath, suite: str, policy: Policy) -> Iterator[Remark]:
    """A suite that exists and that no version of the policy would ever agree on."""
    if any(works(suite, version, policy.level) for version in policy.versions):
        return
    if any(works(suite, version, ANY_LEVEL) for version in policy.versions):
        yield path, "error", f"OpenSSL's security level forbids {suite}: it is too weak", ""
    else:
        which = " nor ".join(policy.versions)
        yield path, "error", f"{suite} is no suite of {which}", "" if len(policy.versions) > 1 else _example(which)


def _unusable(suite: str) -> tuple[str, str]:
    if suite not in _listed("ALL:COMPLEMENTOFALL"):
        return f"the OpenSSL in use ({_release()}) has no suite {suite}", did_you_mean(suite, sorted(usable_suites()))
    if suite.startswith("DHE-"):
        return f"{suite} needs Diffie-Hellman parameters, which there are none of here", "take ECDHE"
    return f"{suite} is not for a server with a certificate: it lacks authentication or encryption", ""


def _example(version: str) -> str:
    known = (*TLS13_SUITES, *POLICIES["tls_cipher_policy_1_0"].suites)
    return next((f"as in {suite}" for suite in known if works(suite, version, ANY_LEVEL)), "")


def _signs(suite: str) -> str:
    return "ECDSA" if "-ECDSA-" in suite else "RSA"


def _is_13(suite: str) -> bool:
    return suite.startswith("TLS_")


@cache
def _listed(text: str) -> tuple[str, ...]:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(f"{text}:{ANY_LEVEL}".encode())
    return tuple(SSL.Connection(context).get_cipher_list())


def _release() -> str:
    """As in "OpenSSL 4.0.3", without the word and the date."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[1]
