"""`nlb cert show`: every kind of file in words and as JSON; what cannot be read is said, and the rest shown."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb
from tests.support.programs import run


def show(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "show", *arguments, cwd=folder)


def test_a_certificate_in_words(issued: Path) -> None:
    result = show(issued, "alice.crt")
    assert (result.returncode, result.stderr) == (0, "")
    text = result.stdout
    assert text.startswith("alice.crt: PEM, 2 certificates\n\n  certificate\n    subject      CN=alice\n")
    for line in (
        "    issuer       CN=Example Intermediate",
        "    names        dns:alice",
        "    purpose      client",
        "    purpose      authority: signs certificates, no further authority",
        "    key          EC P-256",
    ):
        assert f"{line}\n" in text
    assert " days left\n" in text


REQUEST = """\
[req]
prompt = no
distinguished_name = name
req_extensions = wishes
[name]
CN = x
[wishes]
subjectAltName = DNS:x.example, IP:192.0.2.1, URI:spiffe://example.com/x
extendedKeyUsage = clientAuth, serverAuth, 1.2.3.4
keyUsage = critical, digitalSignature, keyCertSign
tlsfeature = status_request
"""


@pytest.mark.parametrize(
    ("constraints", "told", "plain"),
    [
        ("", ["    purpose      client, server, 1.2.3.4"], {}),
        ("CA:FALSE", ["    purpose      client, server, 1.2.3.4", "    authority    no"], {"authority": False}),
        (
            "critical, CA:TRUE, pathlen:0",
            ["    purpose      authority: signs certificates, no further authority (client, server, 1.2.3.4)"],
            {"authority": True, "path_length": 0},
        ),
    ],
)
def test_what_a_request_asks_for(tmp_path: Path, constraints: str, told: list[str], plain: dict[str, object]) -> None:
    """One that openssl has made, with extensions that `nlb cert csr` never asks for."""
    basic = f"basicConstraints = {constraints}\n" if constraints else ""
    (tmp_path / "asked.cnf").write_text(REQUEST + basic)
    run(
        *[
            "openssl",
            "req",
            "-new",
            "-config",
            "asked.cnf",
            "-newkey",
            "ed25519",
            "-noenc",
            "-keyout",
            "key",
            "-out",
            "csr",
        ],
        cwd=tmp_path,
    )
    result = show(tmp_path, "csr")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[2:-3] == [
        "  request",
        "    subject      CN=x",
        "    names        dns:x.example, ip:192.0.2.1, uri:spiffe://example.com/x",
        *told,
        "    key usage    digital signature, key cert sign",
        "    asks for     TLSFeature",
    ]
    ((shown,),) = (one["parts"] for one in json.loads(show(tmp_path, "csr", "--json").stdout))
    assert shown["names"] == ["dns:x.example", "ip:192.0.2.1", "uri:spiffe://example.com/x"]
    assert shown["purposes"] == ["client", "server", "1.2.3.4"]
    assert shown["key_usage"] == ["digital signature", "key cert sign"]
    assert shown["other_extensions"] == ["TLSFeature"]
    assert {key: shown[key] for key in ("authority", "path_length") if key in shown} == plain


def test_several_files_as_json(issued: Path) -> None:
    result = show(issued, "--json", "--password-file", "password", "alice.p12", "ca/ca.crl", "alice.key")
    assert (result.returncode, result.stderr) == (0, "")
    bundle, lists, key = json.loads(result.stdout)
    assert (bundle["pkcs12"]["opened"], bundle["pkcs12"]["name"], bundle["pkcs12"]["target"]) == (
        True,
        "alice",
        "modern",
    )
    assert [part["kind"] for part in bundle["parts"]] == ["certificate", "certificate"]
    assert [part["revoked"] for part in lists["parts"]] == [1, 0]
    assert lists["parts"][0]["entries"][0]["reason"] == "keyCompromise"
    assert key["parts"][0]["spki_sha256"] == bundle["parts"][0]["spki_sha256"]
    assert "PRIVATE" not in result.stdout


def test_a_locked_bundle_says_how_it_is_locked(issued: Path) -> None:
    result = show(issued, "alice.p12")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "alice.p12: PKCS#12 (modern: AES-256, SHA-256 MAC), closed: it has a password\n"


def test_standard_input(issued: Path) -> None:
    with (issued / "alice.crt").open("rb") as stdin:
        result = subprocess.run([NLB, "cert", "show", "-"], stdin=stdin, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("-: PEM, 2 certificates\n")


def test_what_cannot_be_read(issued: Path, tmp_path: Path) -> None:
    """Each bad file has its line, the good ones are shown, and the exit code is 1."""
    (tmp_path / "text").write_text("hello")
    bad = f"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{(issued / 'alice.crt').read_text()}"
    (tmp_path / "half").write_text(bad)
    result = show(tmp_path, "nothing", "text", "half")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "nlb: cannot read nothing: no such file or directory",
        "nlb: text holds no certificate, request, revocation list or key: neither PEM nor DER",
    ]
    assert "  damaged\n    problem  a certificate is damaged or of a kind that cannot be read\n" in result.stdout
    assert "CN=alice" in result.stdout
    assert show(issued, "--password-file", "alice.crt", "alice.p12").stderr == (
        "nlb: alice.p12: the password is wrong, or the file is damaged\n"
    )


def test_usage(issued: Path) -> None:
    assert show(issued).returncode == 2
    assert "Missing argument 'FILE...'" in show(issued).stderr
