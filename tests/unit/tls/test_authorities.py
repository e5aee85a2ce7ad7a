"""The CAs of a listener, each once: by name and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from nlbcore.tls.authorities import authorities_of, canonical
from tests.support.certs import Authority, Pki
from tests.support.lists import revocation_list
from tests.unit.tls.test_revocation import compiled, renewed, told


@pytest.fixture(scope="module")
def pki(module_folder: Path) -> Pki:
    return Pki(module_folder)


def test_a_renewed_ca_is_one_ca(pki: Pki) -> None:
    """Two certificates of one name and key: one entry; one that says no key identifier makes it unknown."""
    again = renewed(pki.root)
    (one,) = authorities_of([pki.root.certificate, again.certificate])
    assert one.key_id == b""
    assert one.certificates == (pki.root.certificate, again.certificate)
    (one,) = authorities_of([pki.root.certificate, pki.root.certificate])
    assert one.key_id == x509.SubjectKeyIdentifier.from_public_key(pki.root.key.public_key()).digest
    assert len(authorities_of([pki.root.certificate, Authority(pki.folder, "Test Root").certificate])) == 2


def test_names_are_compared_as_openssl_does(pki: Pki) -> None:
    def name(text: str, kind: x509.name._ASN1Type) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, kind)])

    other = name("  TEST   root ", x509.name._ASN1Type.PrintableString)
    assert canonical(other) == canonical(pki.root.name)
    assert canonical(name("Testroot", x509.name._ASN1Type.UTF8String)) != canonical(pki.root.name)


def test_a_renewed_ca_has_one_list(pki: Pki) -> None:
    assert told(compiled([pki.root, renewed(pki.root)], [revocation_list(pki.root)])) == []
