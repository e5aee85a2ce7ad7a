"""Names as text: RFC 4514, and what it has no name for as OpenSSL calls it."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from nlbcore.dn import dn
from tests.support.certs import new_key
from tests.support.programs import run

ATTRIBUTES = {
    NameOID.COUNTRY_NAME: "DE",
    NameOID.STATE_OR_PROVINCE_NAME: "Bayern",
    NameOID.LOCALITY_NAME: "Augsburg",
    NameOID.ORGANIZATION_NAME: "Example, Inc.",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "Ops",
    NameOID.COMMON_NAME: "client-1",
    NameOID.USER_ID: "u1",
    NameOID.DOMAIN_COMPONENT: "example",
    NameOID.EMAIL_ADDRESS: "a@example.com",
    NameOID.SERIAL_NUMBER: "4711",
    NameOID.SURNAME: "Doe",
    NameOID.GIVEN_NAME: "Jo",
    NameOID.INITIALS: "J",
    NameOID.TITLE: "Dr",
    NameOID.PSEUDONYM: "jd",
    NameOID.DN_QUALIFIER: "q",
    NameOID.GENERATION_QUALIFIER: "Jr",
    NameOID.POSTAL_CODE: "86150",
    NameOID.POSTAL_ADDRESS: "Way 1",
    NameOID.BUSINESS_CATEGORY: "Private Organization",
    NameOID.ORGANIZATION_IDENTIFIER: "VATDE-1",
    NameOID.JURISDICTION_COUNTRY_NAME: "DE",
    NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME: "Bayern",
    NameOID.JURISDICTION_LOCALITY_NAME: "Augsburg",
    x509.ObjectIdentifier("1.2.3.4"): "x",
}


def test_as_openssl_writes_it() -> None:
    """But for what neither has a name for: the value is text here, and its encoding there."""
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in ATTRIBUTES.items()])
    key = new_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2050, 1, 1, tzinfo=dt.UTC))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    said = run("openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", data=pem).stdout.decode()
    assert f"subject={dn(name)}\n" == said.replace("1.2.3.4=#0C0178", "1.2.3.4=x")


def test_an_empty_one() -> None:
    assert dn(x509.Name([])) == ""
