"""What a certificate says about itself: purposes, dates, chain, names, and whether it is a CA."""

from __future__ import annotations

import datetime as dt
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from nlbcore.tls.x509rules import authority_remarks, chain_remarks, dns_names, key_type, server_remarks

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def server(made) -> list[str]:
    return [f"{severity}: {text}" for severity, text in server_remarks(made.certificate, NOW)]


def authority(made) -> list[str]:
    return [f"{severity}: {text}" for severity, text in authority_remarks(made.certificate, NOW)]


def test_a_good_server_certificate(pki) -> None:
    assert server(pki.server) == []


def test_dates(maker) -> None:
    assert server(maker(start=NOW - 3 * DAY, end=NOW - DAY)) == [
        f"warning: expired on {(NOW - DAY).strftime('%Y-%m-%d %H:%M UTC')}"
    ]
    assert server(maker(start=NOW + DAY, end=NOW + 2 * DAY)) == [
        f"warning: not valid before {(NOW + DAY).strftime('%Y-%m-%d %H:%M UTC')}"
    ]


def test_purposes(maker) -> None:
    assert "error: not a server certificate" in server(maker(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]))[0]
    assert server(maker(purposes=None)) == []
    assert server(maker(purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])) == []
    assert server(maker(usage="digital_signature")) == []
    assert "lacks digitalSignature" in server(maker(usage="key_encipherment"))[0]


def test_names(maker) -> None:
    assert dns_names(maker().certificate) == ("www.example.com", "*.example.org")
    nameless = maker("Www.Example.NET", sans=None)
    assert dns_names(nameless.certificate) == ("www.example.net",)
    assert "no subjectAltName" in server(nameless)[0]


def test_the_common_name_does_not_count_beside_a_subject_alt_name(maker) -> None:
    assert dns_names(maker("cn.example.com", sans=["san.example.com"]).certificate) == ("san.example.com",)


def test_chains(pki, maker, ca_maker) -> None:
    leaf, middle, root = (made.certificate for made in (pki.server, pki.intermediate, pki.root))
    assert list(chain_remarks([leaf, middle, root], NOW)) == []
    assert list(chain_remarks([leaf], NOW)) == []
    (first, second) = chain_remarks([leaf, root, middle], NOW)
    assert first[1].startswith("certificate 2 (CN=root) has not issued the one before it")
    assert second[1].startswith("certificate 3 (CN=intermediate) has not issued")
    old = ca_maker("old", pki.root, end=NOW - DAY / 2)
    assert [
        text.split(" on ")[0] for _, text in chain_remarks([maker(issuer=old).certificate, old.certificate], NOW)
    ] == ["certificate 2: expired"]


def test_a_ca(pki, ca_maker, maker) -> None:
    assert authority(pki.root) == authority(pki.intermediate) == []
    assert authority(ca_maker(usage="key_cert_sign")) == []
    assert authority(pki.server)[0] == "error: CN=www.example.com is not a CA: its basicConstraints say CA:FALSE"
    assert authority(ca_maker(usage="digital_signature")) == [
        "error: CN=root is not a CA: its key usage lacks keyCertSign"
    ]
    assert authority(ca_maker(ca=None)) == ["error: CN=root is not a CA: it has no basicConstraints"]
    assert authority(ca_maker(purposes=[ExtendedKeyUsageOID.SERVER_AUTH])) == [
        "warning: its extended key usage lacks clientAuth: every client certificate under it is refused"
    ]
    assert "expired on" in authority(ca_maker(end=NOW - DAY / 2))[0]


def test_a_weak_ca(ca_maker) -> None:
    for key, bits in ((rsa.generate_private_key(65537, 1024), 1024), (ec.generate_private_key(ec.SECP192R1()), 192)):
        assert authority(ca_maker(key=key)) == [
            f"warning: its key has {bits} bits only: every client certificate under it is refused (weak_key)"
        ]


def test_a_version_1_root_is_a_ca(tmp_path) -> None:
    """`openssl x509 -req` without an extension file makes such certificates: the documented flow has them."""
    request = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=v1",
    ]
    subprocess.run([*request, "-keyout", tmp_path / "k", "-out", tmp_path / "r"], check=True, capture_output=True)
    sign = ["openssl", "x509", "-req", "-in", tmp_path / "r", "-signkey", tmp_path / "k", "-out", tmp_path / "c"]
    subprocess.run(sign, check=True, capture_output=True)
    certificate = x509.load_pem_x509_certificate((tmp_path / "c").read_bytes())
    if certificate.version is not x509.Version.v1:
        pytest.skip("this openssl adds extensions")
    assert list(authority_remarks(certificate, dt.datetime.now(dt.UTC) + DAY)) == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA"),
        (ec.generate_private_key(ec.SECP256R1()), "EC"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
    ],
)
def test_key_types(maker, key, name: str) -> None:
    assert key_type(maker(key=key).certificate) == name
