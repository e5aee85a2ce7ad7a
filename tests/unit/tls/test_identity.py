"""What the log says of a certificate: every field that can be read, and never an exception, whatever a client sends."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from nlbcore.tls.identity import describe, name_text, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELDS = ["subject", "issuer", "serial", "sha256", "not_after", "sans"]
VERSION_3 = b"\xa0\x03\x02\x01\x02"


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    subject: x509.Name | None = None, sans: Sequence[x509.GeneralName] | None = None, serial: int = 0xABCDEF
) -> bytes:
    """DER of a self-signed certificate."""
    name = subject or x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.COMMON_NAME, "client-1")]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(serial)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2050, 12, 31, 23, 59, 58, tzinfo=dt.UTC))
    )
    if sans is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key(), hashes.SHA256()).public_bytes(Encoding.DER)


@cache
def rich() -> bytes:
    return certificate(
        sans=[
            x509.DNSName("a.example"),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.UniformResourceIdentifier("spiffe://corp/app"),
            x509.RFC822Name("a@corp.example"),
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "left out")])),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
        ]
    )


def test_every_field() -> None:
    der = rich()
    assert describe(der) == {
        "client_cert_subject": "CN=client-1,C=DE",
        "client_cert_issuer": "CN=client-1,C=DE",
        "client_cert_serial": "ABCDEF",
        "client_cert_sha256": hashlib.sha256(der).hexdigest(),
        "client_cert_not_after": "2050-12-31T23:59:58Z",
        "client_cert_sans": ["dns:a.example", "ip:2001:db8::1", "uri:spiffe://corp/app", "email:a@corp.example"],
    }
    assert list(describe(der)) == [f"client_cert_{field}" for field in FIELDS]


def test_no_alternative_names() -> None:
    assert "client_cert_sans" not in describe(certificate())


@pytest.mark.parametrize(("serial", "text"), [(1, "01"), (0x80, "80"), (0x123, "0123"), (2**159 - 1, "7" + "F" * 39)])
def test_serial_numbers_in_whole_bytes(serial: int, text: str) -> None:
    assert describe(certificate(serial=serial))["client_cert_serial"] == text


def test_separators_in_names_are_escaped() -> None:
    hostile = 'x,CN=admin+OU=ops\\"<>;'
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostile)])
    assert describe(certificate(name))["client_cert_subject"] == 'CN=x\\,CN=admin\\+OU=ops\\\\\\"\\<\\>\\;'
    assert x509.Name.from_rfc4514_string(str(describe(certificate(name))["client_cert_subject"])) == name


def test_every_kind_of_string() -> None:
    kinds = x509.name._ASN1Type
    for kind in (kinds.UTF8String, kinds.BMPString, kinds.PrintableString, kinds.T61String, kinds.IA5String):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain", _type=kind)])
        assert describe(certificate(name))["client_cert_subject"] == "CN=plain"


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x80", b"garbage", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_certificate(der: bytes) -> None:
    assert describe(der) == {"client_cert_sha256": hashlib.sha256(der).hexdigest()}


def replaced(old: bytes, new: bytes) -> bytes:
    """The rich certificate with some bytes changed, the length not."""
    assert len(old) == len(new)
    assert rich().count(old) >= 1
    return rich().replace(old, new, 1)


@pytest.mark.parametrize("version", [3, 5, 127])
def test_a_version_that_does_not_exist(version: int) -> None:
    """OpenSSL reads such a certificate and shows it to the verify callback, so it does reach the log."""
    der = replaced(VERSION_3, VERSION_3[:-1] + bytes([version]))
    assert describe(der)["client_cert_sha256"] == hashlib.sha256(der).hexdigest()


def test_a_date_that_does_not_exist() -> None:
    fields = describe(replaced(b"20501231235958Z", b"20501331235958Z"))
    assert set(fields) >= {"client_cert_sha256"}


def test_a_negative_serial_number() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a line on the log writer's stderr
        fields = describe(replaced(b"\x02\x04\x00\xab\xcd\xef", b"\x02\x04\xff\xab\xcd\xef"))
    assert "client_cert_sha256" in fields


def test_broken_alternative_names_cost_only_themselves() -> None:
    fields = describe(replaced(b"\x87\x10\x20\x01", b"\x87\x0f\x20\x01"))
    assert "client_cert_sans" not in fields
    assert fields["client_cert_subject"] == "CN=client-1,C=DE"


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 5000))
@example([(len(VERSION_3), 0)], 0)
def test_mutated_der_never_raises(changes: list[tuple[int, int]], cut: int) -> None:
    der = bytearray(rich())
    for place, value in changes:
        der[place % len(der)] = value
    for data in (bytes(der), bytes(der[: cut % len(der)])):
        fields: dict[str, Any] = describe(data)
        assert fields["client_cert_sha256"] == hashlib.sha256(data).hexdigest()
        assert set(fields) <= {f"client_cert_{field}" for field in FIELDS}


def test_the_answers_are_remembered() -> None:
    der = certificate(serial=77)
    describe(der)
    before = describe.cache_info().hits
    describe(der)
    assert describe.cache_info().hits == before + 1
    assert describe.cache_info().maxsize == 512


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9, 20])
def test_a_name_alone(count: int) -> None:
    """As in a certificate, of every length."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ä, " + "x" * 50)] * count)
    assert name_text(name.public_bytes()) == (name.rfc4514_string() or None)


@given(st.binary(max_size=40))
@example(b"")
@example(b"\x30\x02\x31\x00")
def test_a_name_that_cannot_be_read(der: bytes) -> None:
    """Nobody's, and never an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert name_text(der) is None or isinstance(name_text(der), str)


@pytest.mark.parametrize(
    ("text", "error", "depth", "issuer", "told"),
    [
        ("", 0, 0, "CN=a", ""),
        ("max_handshakes", 0, 2, None, "max_handshakes"),
        ("no issuer", 20, 0, "CN=a", "issuer CN=a not found"),
        ("no issuer", 20, 0, "", "issuer unknown not found"),
        ("no issuer", 20, 0, None, "issuer unknown not found"),
        ("no issuer", 20, 1, "CN=a", "no issuer, certificate at depth 1"),
        ("too old", 10, 0, "CN=a", "too old"),
        ("too old", 10, 2, "CN=a", "too old, certificate at depth 2"),
    ],
)
def test_what_is_said_beside_the_word(text: str, error: int, depth: int, issuer: str | None, told: str) -> None:
    assert reason(text, error, depth, issuer) == told
