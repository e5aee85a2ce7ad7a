"""An operator's policy is served whole or refused, with the place and the reason."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL

from nlbcore.config.model import SecurityPolicy
from nlbcore.tls.custom_policy import certificate_remark, made, policy_named, remarks, usable_suites
from nlbcore.tls.policy import POLICIES

EC, RSA, NEW = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"
RELEASE = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[1]
HERE = f"the OpenSSL in use ({RELEASE})"


def table(**keys: Any) -> SecurityPolicy:
    return SecurityPolicy.model_validate({"ciphers": [EC, NEW], **keys})


def told(**keys: Any) -> list[str]:
    return [
        f"{'.'.join(map(str, where))}: {text}" + (f" ({hint})" if hint else "")
        for where, severity, text, hint in remarks("own", table(**keys))
        if severity == "error"
    ]


def test_what_is_made_of_a_table() -> None:
    policy = made("own", table(groups=["X25519"]))
    assert (policy.name, policy.versions, policy.suites, policy.tls13_suites) == (
        *("own", ("TLSv1.2", "TLSv1.3"), (EC,), (NEW,)),
    )
    assert (policy.groups, policy.level) == (("X25519",), "@SECLEVEL=2")
    assert made("own", table()).groups[0] == "X25519MLKEM768"
    assert made("own", table(tls_versions=["TLSv1.2", "TLSv1.1"])).level == "@SECLEVEL=0"
    assert made("own", table(tls_versions=["TLSv1.2", "TLSv1.1"])).min_version == "TLSv1.1"


def test_by_name() -> None:
    own = {"own": table(), "tls_cipher_policy_1_2": table()}
    assert policy_named("own", own) == made("own", own["own"])
    assert policy_named("tls_cipher_policy_1_2", own) is POLICIES["tls_cipher_policy_1_2"]
    assert policy_named("nobody", own) is POLICIES["tls_cipher_policy_1_2_strict_with_1_3"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, []),
        ({"groups": ["X25519MLKEM768", "X25519", "P-256", "P-384", "P-521"]}, []),
        ({"tls_versions": ["TLSv1.3"], "ciphers": [NEW]}, []),
        ({"tls_versions": ["TLSv1.0", "TLSv1.1"], "ciphers": ["ECDHE-RSA-AES128-SHA"]}, []),
        (
            {"tls_versions": ["TLSv1.3"], "ciphers": [EC]},
            [
                f"ciphers.0: {EC} is no suite of TLSv1.3 (as in {NEW})",
                f"ciphers: TLSv1.3 is in `tls_versions`, but none of these suites is one of it (as in {NEW})",
            ],
        ),
        ({"tls_versions": ["TLSv1.3"]}, [f"ciphers.0: {EC} is no suite of TLSv1.3 (as in {NEW})"]),
        (
            {"ciphers": [EC]},
            [f"ciphers: TLSv1.3 is in `tls_versions`, but none of these suites is one of it (as in {NEW})"],
        ),
        (
            {"tls_versions": ["TLSv1.1", "TLSv1.2"], "ciphers": [EC]},
            [
                (
                    "ciphers: TLSv1.1 is in `tls_versions`, but none of these suites is one of it "
                    "(as in ECDHE-ECDSA-AES128-SHA)"
                )
            ],
        ),
        (
            {"tls_versions": ["TLSv1.0", "TLSv1.3"], "ciphers": ["ECDHE-RSA-AES128-SHA", NEW]},
            ["tls_versions: TLSv1.1 and TLSv1.2 cannot be left out between TLSv1.0 and TLSv1.3"],
        ),
        (
            {"ciphers": [EC, NEW, EC], "groups": ["X25519", "X25519"]},
            [f"ciphers.2: {EC} stands here twice", "groups.1: X25519 stands here twice"],
        ),
        (
            {"ciphers": ["ECDHE-ECDSA-AES128-GCM-SHA265", NEW]},
            [f'ciphers.0: {HERE} has no suite ECDHE-ECDSA-AES128-GCM-SHA265 (did you mean "{EC}"?)'],
        ),
        (
            {"ciphers": [EC, NEW, "DHE-RSA-AES128-GCM-SHA256"]},
            [
                (
                    "ciphers.2: DHE-RSA-AES128-GCM-SHA256 needs Diffie-Hellman parameters, which there are none of here "
                    "(take ECDHE)"
                )
            ],
        ),
        *(
            (
                {"ciphers": [EC, NEW, suite]},
                [f"ciphers.2: {suite} is not for a server with a certificate: it lacks authentication or encryption"],
            )
            for suite in ("ADH-AES128-SHA", "AECDH-AES128-SHA", "NULL-SHA256", "PSK-AES128-CBC-SHA")
        ),
        *(
            ({"ciphers": [EC, NEW, text]}, [f"ciphers.2: {HERE} has no suite {text}"])
            for text in ("ALL", "@SECLEVEL=0", "!aNULL", "AES:!aNULL", "+HIGH")
        ),
        (
            {"ciphers": [EC, NEW, "TLS_AES_128_CCM_8_SHA256"]},
            ["ciphers.2: OpenSSL's security level forbids TLS_AES_128_CCM_8_SHA256: it is too weak"],
        ),
        *(
            (
                {"groups": groups},
                ["groups: TLSv1.2 is in `tls_versions`, but none of these groups is one of it (as in X25519)"],
            )
            for groups in (["X25519MLKEM768"], ["SecP256r1MLKEM768", "ffdhe2048"])
        ),
        ({"groups": ["X25519MLKEM768"], "tls_versions": ["TLSv1.3"], "ciphers": [NEW]}, []),
        ({"groups": ["X25519MLKEM768"], "ciphers": [EC, NEW, "AES128-GCM-SHA256"]}, []),
        (
            {"groups": ["brainpoolP256r1"]},
            ["groups: TLSv1.3 is in `tls_versions`, but none of these groups is one of it (as in X25519)"],
        ),
        ({"groups": ["X25519MLKEM768", "X2551"]}, [f'groups.1: {HERE} has no group X2551 (did you mean "X25519"?)']),
        ({"groups": ["X2551"]}, [f'groups.0: {HERE} has no group X2551 (did you mean "X25519"?)']),
        ({"groups": ["X25519:P-256"]}, [f'groups.0: {HERE} has no group X25519:P-256 (did you mean "X25519"?)']),
    ],
)
def test_what_is_wrong(keys: dict[str, Any], expected: list[str]) -> None:
    assert sorted(told(**keys)) == sorted(expected)


def test_a_version_that_openssl_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an OpenSSL is not here: the suites are taken away."""
    monkeypatch.setattr("nlbcore.tls.custom_policy.usable_suites", lambda: frozenset({NEW}))
    assert told(tls_versions=["TLSv1.2", "TLSv1.3"])[0] == f"tls_versions.0: {HERE} cannot speak TLSv1.2"


def test_suites_that_a_server_can_offer() -> None:
    assert {EC, RSA, NEW, "AES128-SHA", "ECDHE-RSA-CHACHA20-POLY1305"} <= usable_suites()
    assert not [one for one in usable_suites() if one.startswith(("DHE", "PSK", "ADH", "NULL", "SRP"))]
    assert not [one for one in usable_suites() if "SHA256_SHA256" in one], "integrity only"


@pytest.mark.parametrize(
    ("keys", "kinds", "severity", "lost"),
    [
        ({}, ["EC"], None, ""),
        ({}, ["Ed25519"], None, ""),
        ({}, ["RSA"], "warning", "TLSv1.2 can be served: its suites there need a certificate with an ECDSA key"),
        ({}, ["RSA", "EC"], None, ""),
        ({}, [], None, ""),
        ({"tls_versions": ["TLSv1.2"], "ciphers": [EC]}, ["RSA"], "error", "ECDSA key"),
        ({"tls_versions": ["TLSv1.2"], "ciphers": [RSA, "AES128-SHA"]}, ["EC"], "error", "RSA key"),
        ({"tls_versions": ["TLSv1.3"], "ciphers": [NEW]}, ["RSA"], None, ""),
        (
            {"tls_versions": ["TLSv1.1", "TLSv1.2"], "ciphers": [EC, "ECDHE-RSA-AES128-SHA"]},
            ["EC"],
            "warning",
            "TLSv1.1 can be served",
        ),
    ],
)
def test_certificates_that_do_not_fit(keys: dict[str, Any], kinds: list[str], severity: str | None, lost: str) -> None:
    remark = certificate_remark(made("own", table(**keys)), kinds)
    assert (remark and remark[0]) == severity
    assert remark is None or lost in remark[1]
    assert certificate_remark(POLICIES["tls_cipher_policy_1_0"], kinds) is None
