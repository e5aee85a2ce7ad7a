"""PEM files of every kind, good and spoilt; no sentence quotes the file."""

from __future__ import annotations

from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from nlbcore.tls import pem
from nlbcore.tls.pem import BadFile


def problem(call: object, data: bytes) -> str:
    with pytest.raises(BadFile) as caught:
        call(data)  # type: ignore[operator]
    return f"{caught.value} | {caught.value.hint}".removesuffix(" | ")


def test_several_certificates_with_text_between(pki) -> None:
    data = b"Certificate:\n  Data: \xff\n" + pki.server.pem + b"\nroot:\r\n" + pki.root.pem.replace(b"\n", b"\r\n")
    good, bad = pem.certificates(data)
    assert good == [pki.server.certificate, pki.root.certificate]
    assert bad == []


def test_a_key_in_the_same_file_is_passed_over(pki) -> None:
    good, bad = pem.certificates(pki.server.key_pem() + pki.server.pem)
    assert (good, bad) == ([pki.server.certificate], [])


def test_every_damaged_certificate_is_named(pki) -> None:
    spoilt = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    good, bad = pem.certificates(spoilt + pki.server.pem + spoilt)
    assert good == [pki.server.certificate]
    assert [str(one) for one in bad] == [
        "certificate 1 is damaged or of a kind that cannot be read",
        "certificate 3 is damaged or of a kind that cannot be read",
    ]


def test_no_certificate(pki) -> None:
    assert problem(pem.certificates, b"hello") == "holds no PEM certificate"
    assert problem(pem.certificates, pki.server.key_pem()) == "holds no certificate but: private key"
    assert problem(pem.certificates, pki.server.der) == (
        "holds no PEM certificate; it looks like DER | openssl x509 -inform DER -in FILE -out NEW converts it"
    )
    for encoding, said, option in (
        (Encoding.PEM, "holds no certificate but: pkcs7", ""),
        (Encoding.DER, "is a PKCS#7 bundle", " -inform DER"),
    ):
        bundle = pkcs7.serialize_certificates([pki.root.certificate, pki.server.certificate], encoding)
        for der in (False, True):
            assert problem(partial(pem.certificates, der=der), bundle) == (
                f"{said} | openssl pkcs7{option} -print_certs -in FILE -out NEW takes its certificates out"
            )
    cut = pki.server.pem + pki.root.pem[:-30]
    assert problem(pem.certificates, cut).endswith("has no end: the file is cut off")
    line = pki.server.pem.count(b"\n") + 1
    assert f"the CERTIFICATE that begins in line {line} " in problem(pem.certificates, cut)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_keys(key) -> None:
    styles = [
        PrivateFormat.PKCS8,
        *([] if isinstance(key, ed25519.Ed25519PrivateKey) else [PrivateFormat.TraditionalOpenSSL]),
    ]
    for style in styles:
        data = b"comment\n" + key.private_bytes(Encoding.PEM, style, NoEncryption())
        assert pem.private_key(data).public_key() == key.public_key()


def test_openssl_writes_parameters_before_an_ec_key(pki) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = pem.private_key(parameters + pki.server.key_pem(PrivateFormat.TraditionalOpenSSL))
    assert key.public_key() == pki.server.key.public_key()


def test_encrypted_keys(pki) -> None:
    for style in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        assert problem(pem.private_key, pki.server.key_pem(style, b"secret")) == (
            "the private key is encrypted, and there is nobody to ask for the passphrase | "
            "openssl pkey -in FILE -out NEW writes it without one"
        )


def test_no_key(pki) -> None:
    assert problem(pem.private_key, b"x") == "holds no PEM private key"
    assert problem(pem.private_key, pki.server.pem) == "holds no private key but: certificate"
    assert problem(pem.private_key, pki.server.key_pem() * 2) == "holds 2 private keys; one is needed"
    assert "OpenSSH's format" in problem(pem.private_key, pki.server.key_pem(PrivateFormat.OpenSSH))
    der = pki.server.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert "openssl pkey -inform DER" in problem(pem.private_key, der)


def test_nothing_of_a_damaged_key_is_in_the_exception(pki) -> None:
    body = pki.server.key_pem().split(b"\n")
    body[2] = body[2][::-1]
    with pytest.raises(BadFile) as caught:
        pem.private_key(b"\n".join(body))
    assert str(caught.value) == "the private key is damaged or of a kind that cannot be read"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
