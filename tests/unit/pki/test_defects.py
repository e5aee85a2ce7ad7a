"""Defects of single parts: each rule finds its own in a certificate that has nothing else, and nlb's own have none."""

from __future__ import annotations

import base64
import datetime as dt
import shlex
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from nlbcore.pki import contents
from nlbcore.pki.authority import Authority
from nlbcore.pki.defects import Patient, of_certificate, of_list, of_request
from nlbcore.pki.index import now
from nlbcore.pki.issue import Request
from tests.support.odd import CLIENT, SERVER, Odd, authority
from tests.support.programs import run


@pytest.fixture(scope="module")
def root(module_folder: Path) -> Odd:
    return authority(module_folder, "Root")


def found(one: Odd | x509.Certificate, path: Path = Path("x.crt")) -> list[tuple[str, str]]:
    certificate = one.certificate if isinstance(one, Odd) else one
    return [(defect.code, defect.severity) for defect in of_certificate(Patient(certificate, path, now()))]


def test_what_nlb_makes_has_none(tmp_path: Path, authority: Authority) -> None:
    for profile, kind in (("server", "ec-p256"), ("server", "rsa-2048"), ("client", "ed25519"), ("client", "ec-p384")):
        issued = authority.issue(Request("a.example", profile, key_type=kind), out=tmp_path, force=True)
        for certificate in contents.load(issued.certificate).certificates:
            assert found(certificate) == []
    nobody = authority.issue(Request("alice", "client", cn="Alice Example"), out=tmp_path)
    assert found(contents.load(nobody.certificate).certificates[0]) == []
    assert found(authority.root) == []
    for made in contents.load(authority.crl().path).of(x509.CertificateRevocationList):
        assert list(of_list(made, now())) == []


GOOD: dict[str, Any] = {"usages": [SERVER], "dns": ["www.example.com"]}
WEAK = rsa.generate_private_key(65537, 1024)
RULES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "nothing": ({}, []),
    "no SAN, server": ({"dns": []}, [("no-san", "error")]),
    "no SAN, client": ({"dns": [], "usages": [CLIENT]}, []),
    "no purpose": ({"usages": []}, [("no-eku", "warning")]),
    "no constraints": ({"ca": None}, [("no-basic-constraints", "warning")]),
    "no signatures": ({"digital_signature": False}, [("key-usage", "error")]),
    "too long": ({"days": 826}, [("long-life", "error")]),
    "long enough": ({"days": 825}, []),
    "too long, client": ({"days": 3650, "dns": [], "usages": [CLIENT]}, [("long-life", "warning")]),
    "expired": ({"days": 0.01}, [("expired", "error")]),
    "early": ({"begin": dt.datetime.now(dt.UTC) + dt.timedelta(1)}, [("not-yet-valid", "error")]),
    "weak RSA": ({"key": WEAK}, [("weak-key", "error")]),
    "weak EC": ({"key": ec.generate_private_key(ec.SECP192R1())}, [("weak-key", "error")]),
    "DSA": ({"key": dsa.generate_private_key(2048)}, [("weak-key", "error")]),
    "Ed25519": ({"key": ed25519.Ed25519PrivateKey.generate()}, [("ed25519-server", "warning")]),
    "Ed25519, client": ({"key": ed25519.Ed25519PrivateKey.generate(), "dns": [], "usages": [CLIENT]}, []),
    "no identifiers": ({"identifiers": False}, [("no-key-identifier", "warning")]),
    "another common name": ({"dns": ["other.example.com"]}, [("cn-not-in-san", "warning")]),
    "covered by a star": ({"dns": ["*.example.com"]}, []),
    "star in the middle": ({"dns": ["www.example.com", "www.*.example.com"]}, [("wildcard", "error")]),
    "half a star": ({"dns": ["www.example.com", "w*.example.com"]}, [("wildcard", "error")]),
    "star over all": ({"dns": ["www.example.com", "*.com"]}, [("wildcard", "error")]),
    "only a star": ({"dns": ["www.example.com", "*"]}, [("wildcard", "error")]),
    "star for a client": ({"dns": ["*.example.com"], "usages": [CLIENT]}, [("wildcard", "warning")]),
    "address as a host": ({"dns": ["www.example.com", "10.0.0.1"]}, [("bad-name", "error")]),
    "URL as a host": ({"dns": ["www.example.com", "https://www.example.com/"]}, [("bad-name", "error")]),
    "space": ({"dns": ["www.example.com", "a b"]}, [("bad-name", "error")]),
}


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_each_rule_finds_its_own(module_folder: Path, root: Odd) -> None:
    for name, (options, expected) in RULES.items():
        leaf = Odd(module_folder, "www.example.com", issuer=root, **(GOOD | options))
        assert found(leaf) == expected, name


def test_authorities(module_folder: Path, root: Odd) -> None:
    assert found(root) == []
    for options, expected in (
        ({"signs": None}, [("authority-not-strict", "warning")]),
        ({"critical": False}, [("authority-not-strict", "warning")]),
        ({"identifiers": False}, [("authority-not-strict", "warning")]),
        ({"signs": False}, [("authority-cannot-sign", "error")]),
        ({"dns": ["www.example.com"]}, [("authority-as-leaf", "error")]),
    ):
        assert found(authority(module_folder, "Other", **options)) == expected, options
    weak_root = authority(module_folder, "Weak Root", key=WEAK)
    assert found(weak_root) == [("weak-key", "error")]


def test_self_signed(module_folder: Path) -> None:
    leaf = Odd(module_folder, "www.example.com", **GOOD)
    assert found(leaf) == [("self-signed", "error")]
    nameless = Odd(module_folder, "", **GOOD | {"usages": [CLIENT], "dns": []})
    assert found(nameless) == [("no-name", "error"), ("self-signed", "error")]


def openssl(folder: Path, *commands: str) -> x509.Certificate:
    for command in commands:
        run("openssl", *shlex.split(command), cwd=folder)
    return contents.load(folder / "out.crt").certificates[0]


def test_what_openssl_makes(module_folder: Path, root: Odd) -> None:
    """Version 1 with and without -signkey, and old digests, which a root may have: nobody looks at its signature."""
    request = "req -new -newkey rsa:2048 -noenc -keyout k.key -subj /CN=www.example.com -out r.csr"
    sign = "x509 -req -in r.csr -out out.crt -days 30"
    signed = openssl(module_folder, request, f"{sign} -CA Root.crt -CAkey Root.key -CAcreateserial")
    bare = [("v1", "error"), ("no-san", "error"), ("no-eku", "warning"), ("no-basic-constraints", "warning")]
    assert found(signed) == bare
    assert found(openssl(module_folder, f"{sign} -signkey k.key")) == [*bare, ("self-signed", "error")]
    old = openssl(module_folder, f"{sign} -sha1 -CA Root.crt -CAkey Root.key -CAcreateserial")
    assert ("weak-signature", "error") in found(old)
    zero = openssl(module_folder, f"{sign} -set_serial 0 -CA Root.crt -CAkey Root.key")
    with contents.tolerant():
        assert ("bad-serial", "warning") in found(zero)
    old_root = openssl(module_folder, "req -x509 -sha1 -key k.key -subj /CN=Old -out out.crt -days 30")
    assert [code for code, _ in found(old_root)] == ["authority-not-strict"]


@pytest.mark.parametrize(
    ("name", "options", "command"),
    [
        ("www.example.com", {}, "nlb cert issue www.example.com --ca DIR --profile server"),
        ("a b", {}, "nlb cert issue 'a b' --ca DIR --profile server --dns www.example.com"),
        ("*.example.com", {}, "nlb cert issue x --ca DIR --profile server --cn '*.example.com' --dns www.example.com"),
        ("alice", {"usages": [CLIENT], "dns": []}, "nlb cert issue alice --ca DIR --profile client"),
        ("alice", {"dns": []}, "nlb cert issue alice --ca DIR --profile server"),
        ("Alice B", {"dns": []}, "nlb cert issue 'Alice B' --ca DIR --profile server --dns HOST"),
        ("; rm -rf /", {"dns": []}, "nlb cert issue x --ca DIR --profile server --cn '; rm -rf /' --dns HOST"),
    ],
)
def test_the_command_that_makes_a_better_one(
    module_folder: Path, root: Odd, name: str, options: Any, command: str
) -> None:
    leaf = Odd(module_folder, name, issuer=root, file="odd", **(GOOD | options))
    assert Patient(leaf.certificate, Path("x.crt"), now()).reissue() == command
    assert Patient(root.certificate, Path("x.crt"), now()).reissue() == "nlb ca init DIR --name Root"


def test_requests(tmp_path: Path) -> None:
    def codes(command: str) -> list[str]:
        run(*shlex.split(f"openssl req -new -noenc -keyout k.key -out r.csr {command}"), cwd=tmp_path)
        (request,) = contents.load(tmp_path / "r.csr").of(x509.CertificateSigningRequest)
        return [defect.code for defect in of_request(request, tmp_path / "r.csr")]

    assert codes("-newkey rsa:2048 -subj /CN=x -addext subjectAltName=DNS:x.example") == []
    assert codes("-newkey rsa:1024 -subj /CN=x") == ["no-san", "weak-key"]
    der = bytearray(base64.b64decode((tmp_path / "r.csr").read_bytes().split(b"-----")[2]))
    der[-1] ^= 1
    (tmp_path / "bad.csr").write_bytes(der)
    (request,) = contents.load(tmp_path / "bad.csr").of(x509.CertificateSigningRequest)
    (first, *_) = of_request(request, tmp_path / "bad.csr")
    assert (first.code, first.severity, first.fix) == ("bad-signature", "error", "nlb cert csr bad")


def test_lists(root: Odd) -> None:
    moment = now()

    def codes(due: dt.datetime, *, number: bool = True) -> list[str]:
        builder = x509.CertificateRevocationListBuilder().issuer_name(root.name)
        builder = builder.last_update(moment - dt.timedelta(9)).next_update(due)
        if number:
            builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        return [defect.code for defect in of_list(builder.sign(root.key, hashes.SHA256()), moment)]

    assert codes(moment + dt.timedelta(1)) == []
    assert codes(moment) == ["overdue"]
    assert codes(moment + dt.timedelta(1), number=False) == ["no-crl-number"]


def test_a_list_of_version_1_with_an_old_digest(tmp_path: Path) -> None:
    (tmp_path / "index.txt").touch()
    config = "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ndefault_md=sha1\n"
    (tmp_path / "ca.cnf").write_text(config)
    root = authority(tmp_path, "Root")
    command = "openssl ca -config ca.cnf -gencrl -keyfile Root.key -cert Root.crt -crldays 3 -out r.crl"
    run(*command.split(), cwd=tmp_path)
    (made,) = contents.load(tmp_path / "r.crl").of(x509.CertificateRevocationList)
    assert made.issuer == root.name
    assert [defect.code for defect in of_list(made, now())] == ["no-crl-number", "weak-signature"]
