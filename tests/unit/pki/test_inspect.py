"""What a certificate says: compared with what openssl prints, every kind of name, and words for every kind of part."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from nlbcore.pki import contents, inspect, keys
from nlbcore.pki.authority import Authority
from nlbcore.pki.index import now, stamp
from nlbcore.pki.issue import Request
from tests.support.programs import run


def described(path: Path, moment: dt.datetime | None = None) -> list[dict[str, Any]]:
    return [inspect.describe(part, moment or now()) for part in contents.load(path).parts]


def words(shown: dict[str, Any]) -> dict[str, str]:
    return dict(inspect.in_words(shown))


def test_a_certificate_as_openssl_sees_it(tmp_path: Path, authority: Authority) -> None:
    request = Request(
        "alice", "client", dns=["a.example"], ip=["::1"], uri=["spiffe://example.com/a"], email=["a@b.example"]
    )
    issued = authority.issue(request, out=tmp_path)
    leaf, above = described(issued.certificate)

    def openssl(*options: str) -> str:
        text = run("openssl", "x509", "-in", str(issued.certificate), "-noout", *options).stdout.decode().strip()
        return text.rpartition("=")[2].replace(":", "").lower()

    assert leaf["serial"].lower() == openssl("-serial")
    assert leaf["sha256"] == openssl("-fingerprint", "-sha256")
    assert leaf["sha1"] == openssl("-fingerprint", "-sha1")
    public = run("openssl", "pkey", "-in", str(issued.private_key), "-pubout", "-outform", "DER").stdout
    digest = run("openssl", "dgst", "-sha256", "-r", data=public).stdout.decode()
    assert leaf["spki_sha256"] == digest.split()[0]
    assert leaf["names"] == ["dns:alice", "dns:a.example", "ip:::1", "uri:spiffe://example.com/a", "email:a@b.example"]
    assert (leaf["purposes"], leaf["authority"], leaf["status"]) == (["client"], False, "valid")
    assert leaf["days_left"] in {29, 30}  # the latter within the second of its making
    assert leaf["authority_key_identifier"] == above["subject_key_identifier"]
    assert "path_length" not in leaf
    assert (above["authority"], above["path_length"]) == (True, 0)
    assert words(above)["purpose"] == "authority: signs certificates, no further authority"
    assert words(leaf)["purpose"] == "client"


def test_how_long_it_is_still_good(authority: Authority) -> None:
    path = authority.folder / "root.crt"
    end = authority.root.not_valid_after_utc
    for moment, told in (
        (end - dt.timedelta(days=2), "2 days left"),
        (end - dt.timedelta(days=1), "one day left"),
        (end - dt.timedelta(seconds=1), "0 days left"),
        (end, "EXPIRED"),
        (end + dt.timedelta(days=9), "EXPIRED"),
        (authority.root.not_valid_before_utc - dt.timedelta(1), "NOT YET VALID"),
    ):
        (shown,) = described(path, moment)
        assert words(shown)["valid"].endswith(f", {told}"), told


def test_every_kind_of_name_and_limit(tmp_path: Path) -> None:
    key = keys.new("ec-p384")
    other = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dir")])
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(other)
        .public_key(key.public_key())
        .serial_number(10)
        .not_valid_before(now())
        .not_valid_after(now() + dt.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DirectoryName(other),
                    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
                    x509.OtherName(x509.ObjectIdentifier("1.2.4"), b"\x05\x00"),
                ]
            ),
            critical=True,
        )
        .add_extension(
            x509.NameConstraints(
                [x509.DNSName("corp.example"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))],
                [x509.DNSName("no.corp.example")],
            ),
            critical=True,
        )
        .add_extension(
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([x509.UniformResourceIdentifier("http://x.example/crl")], None, None, None)]
            ),
            critical=False,
        )
        .add_extension(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(method, x509.UniformResourceIdentifier(f"http://x.example/{place}"))
                    for method, place in ((AuthorityInformationAccessOID.OCSP, "ocsp"), (AuthorityInformationAccessOID.CA_ISSUERS, "ca"))
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA384())
    )  # fmt: skip
    shown = inspect.describe(certificate, now())
    told = words(shown)
    assert told["names"] == "dirname:CN=dir, rid:1.2.3, othername:1.2.4"
    assert told["limited to"] == "only dns:corp.example, only ip:10.0.0.0/8, not dns:no.corp.example"
    assert told["subject"] == "(empty)"
    assert told["purpose"] == "not said: both server and client"
    assert told["key"] == "EC P-384"
    assert (told["lists at"], told["OCSP at"], told["issuer at"]) == tuple(
        f"http://x.example/{place}" for place in ("crl", "ocsp", "ca")
    )
    assert shown["serial"] == "0A"


@pytest.mark.parametrize(
    ("kind", "told"),
    [("rsa-2048", "RSA 2048"), ("ec-p256", "EC P-256"), ("ed25519", "Ed25519")],
)
def test_keys(tmp_path: Path, kind: str, told: str) -> None:
    (tmp_path / "key").write_bytes(keys.pem(keys.new(kind)))
    (shown,) = described(tmp_path / "key")
    assert (shown["kind"], shown["key"], shown["encrypted"]) == ("private key", told, False)
    assert "PRIVATE" not in str(shown)
    assert inspect.spki(keys.new(kind).public_key()) != inspect.spki(keys.new(kind).public_key())


def test_other_keys_and_an_encrypted_one(tmp_path: Path) -> None:
    for algorithm, told in (
        ("ED448", "Ed448"),
        ("X25519", "X25519"),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", "EC secp256k1"),
    ):
        run("openssl", "genpkey", "-algorithm", *algorithm.split(), "-out", str(tmp_path / "key"))
        assert described(tmp_path / "key")[0]["key"] == told
    run("openssl", "genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x", "-out", str(tmp_path / "locked"))
    (shown,) = described(tmp_path / "locked")
    assert words(shown) == {"key": "encrypted: it has a passphrase"}


def test_a_request(tmp_path: Path) -> None:
    command = "openssl req -new -newkey rsa:2048 -noenc -keyout key -out csr -subj /O=Example/CN=x -addext subjectAltName=DNS:x.example"
    run(*command.split(), cwd=tmp_path)
    (shown,) = described(tmp_path / "csr")
    told = words(shown)
    assert (told["subject"], told["names"], told["key"]) == ("CN=x,O=Example", "dns:x.example", "RSA 2048")
    assert told["signature"] == "sha256WithRSAEncryption, good"


def test_lists(authority: Authority, tmp_path: Path) -> None:
    count = inspect.SHOWN_REVOKED + 2
    for _ in range(count - 1):
        authority.issue(Request("c", "client"), out=tmp_path, force=True)
    authority.issue(Request("d", "client"), out=tmp_path)
    authority.revoke("c")
    crl = authority.revoke("d", "keyCompromise")
    own, roots = described(crl.crl.path)
    assert (own["revoked"], own["status"], own["number"], roots["revoked"]) == (count, "current", crl.crl.number, 0)
    assert len(own["entries"]) == inspect.SHOWN_REVOKED
    revoked = {entry.serial_hex: (entry.revoked_at, entry.reason) for entry in authority.entries()}
    for entry in own["entries"]:
        when, reason = revoked[entry["serial"]]
        assert when
        assert (entry["revoked_at"], entry["reason"]) == (stamp(when), reason)
    lines = list(inspect.in_words(own))
    assert lines[-1] == ("", "and 2 more")
    assert words(roots)["revoked"] == "0"
    later = described(crl.crl.path, now() + dt.timedelta(days=9))[0]
    assert words(later)["made"].endswith(", OVERDUE")


def test_a_file_in_one_line(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path, p12_password="secret")
    assert issued.p12

    def line(path: Path, password: str = "") -> str:
        loaded = contents.load(path, (lambda: password) if password else None)
        return inspect.file_in_words(inspect.describe_file(loaded, now()))

    assert line(issued.certificate) == "PEM, 2 certificates"
    assert line(issued.private_key) == "PEM, 1 private key"
    assert line(issued.p12) == "PKCS#12 (modern: AES-256, SHA-256 MAC), closed: it has a password"
    assert line(issued.p12, "secret") == 'PKCS#12 (modern: AES-256, SHA-256 MAC), "alice", EC P-256 key, 2 certificates'
    (tmp_path / "bad").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert line(tmp_path / "bad") == "PEM, 1 damaged"
    (tmp_path / "public").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert line(tmp_path / "public") == "PEM, nothing that is known"
    (shown,) = described(tmp_path / "bad")
    assert words(shown) == {"problem": "a certificate is damaged or of a kind that cannot be read"}
