"""Names that are none, as the engine finds them in a certificate's DER; on the wire: ``tests/wire/test_never_a_client``."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.test_identities import ec_key, identity
from tests.support.certs import Authority, Pki, alternative_names

__all__ = ["identity"]

MALFORMED = 53
EMAIL, DNS, URI, ADDRESS = 0x81, 0x82, 0x86, 0x87


@pytest.fixture(scope="module")
def root(pki: Pki) -> Authority:
    return pki.root


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([(DNS, b"a.example")], 0),
        ([(DNS, b"a.example.")], 0),
        ([(DNS, b"*.example")], 0),
        ([(DNS, b"a.example"), (DNS, b"b\0.example")], MALFORMED),
        ([(DNS, b".")], MALFORMED),
        ([(DNS, b"\x7f")], MALFORMED),
        ([(URI, b"spiffe://a/b")], 0),
        ([(URI, b"spiffe://a/ b")], MALFORMED),
        ([(EMAIL, b'"a b"@example')], 0),
        ([(EMAIL, b"a\n@example")], MALFORMED),
        ([(ADDRESS, bytes(4)), (ADDRESS, bytes(16))], 0),
        ([(ADDRESS, bytes(5))], MALFORMED),
        ([(0xA0, b"\x06\x01\x2a\xa0\x00")], 0),
        ([], MALFORMED),
    ],
)
def test_alternative_names(identity: Any, root: Authority, entries: list[tuple[int, bytes]], fault: int) -> None:
    issued = root.client("x", key=ec_key(), extensions=[alternative_names(*entries)])
    assert identity(issued.der)[2] == fault


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        (_ASN1Type.UTF8String, "a", 0),
        (_ASN1Type.UTF8String, "a\0", MALFORMED),
        (_ASN1Type.T61String, "a\0b", MALFORMED),
        (_ASN1Type.BMPString, "ab", 0),
        (_ASN1Type.BMPString, "a\0b", MALFORMED),
        (_ASN1Type.UniversalString, "ab", 0),
        (_ASN1Type.UniversalString, "a\0b", MALFORMED),
    ],
)
@pytest.mark.parametrize("attribute", [NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME])
def test_subjects(
    identity: Any, root: Authority, attribute: x509.ObjectIdentifier, kind: _ASN1Type, value: str, fault: int
) -> None:
    """In each string type, whichever attribute has it."""
    subject = x509.Name([x509.NameAttribute(attribute, value, _type=kind, _validate=False)])
    assert identity(root.client("x", key=ec_key(), subject=subject).der)[2] == fault


def test_empty_attributes(identity: Any, root: Authority) -> None:
    """Only an empty common name is none."""
    for attribute, fault in ((NameOID.COMMON_NAME, MALFORMED), (NameOID.ORGANIZATIONAL_UNIT_NAME, 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about what is wrong with it
            subject = x509.Name([x509.NameAttribute(attribute, "", _validate=False)])
        assert identity(root.client("x", key=ec_key(), subject=subject).der)[2] == fault


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
def test_whatever_stands_there(identity: Any, root: Authority, value: bytes) -> None:
    """Any bytes as subjectAltName: an answer, and the memory of nobody else."""
    extension = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value)
    assert identity(root.client("x", key=ec_key(), extensions=[extension]).der)[2] in (0, MALFORMED)
