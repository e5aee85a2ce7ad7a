"""`nlb cert bundle`: files that openssl and HAProxy take, from whatever order and form; refusals that write nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run


def bundle(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "bundle", *arguments, cwd=folder)


def test_a_full_chain_from_what_a_seller_sends(issued: Path, tmp_path: Path) -> None:
    """The leaf in DER, the rest in PKCS#7 and in the wrong order: openssl verifies what comes out, leaf first."""
    leaf, others, out = tmp_path / "leaf.der", tmp_path / "others.p7b", tmp_path / "full.pem"
    run("openssl", "x509", "-in", "www.example.com.crt", "-outform", "DER", "-out", str(leaf), cwd=issued)
    files = ("-certfile", "ca/root.crt", "-certfile", "ca/intermediate.crt")
    run("openssl", "crl2pkcs7", "-nocrl", *files, "-out", str(others), cwd=issued)
    result = bundle(issued, others, leaf, "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{out}: fullchain\n  CN=www.example.com\n  CN=Example Intermediate\n"
    assert out.read_text().split() == (issued / "www.example.com.crt").read_text().split()
    run("openssl", "verify", "-CAfile", "ca/root.crt", "-untrusted", str(out), str(out), cwd=issued)


def test_haproxy_takes_its_form(issued: Path, tmp_path: Path) -> None:
    out = tmp_path / "www.pem"
    result = bundle(issued, "www.example.com.crt", "www.example.com.key", "--form", "haproxy", "--out", out, "--json")
    assert json.loads(result.stdout) == {
        "file": str(out),
        "form": "haproxy",
        "certificates": ["CN=www.example.com", "CN=Example Intermediate"],
        "private_key": True,
    }
    assert out.stat().st_mode & 0o777 == 0o600
    settings = "mode tcp\n timeout client 1s\n timeout connect 1s\n timeout server 1s"
    text = f"defaults\n {settings}\nfrontend f\n bind 127.0.0.1:1 ssl crt {out}\n"
    (tmp_path / "haproxy.cfg").write_text(text)
    run("haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg"))


def test_chain_and_leaf(issued: Path, tmp_path: Path) -> None:
    result = bundle(issued, "www.example.com.crt", "--form", "chain", "--out", tmp_path / "chain")
    above = "  above it CN=Example, which is not in these files (a root need not be)"
    expected = f"{tmp_path}/chain: chain\n  CN=Example Intermediate\n{above}\n"
    assert result.stdout == expected
    assert bundle(issued, "www.example.com.crt", "--form", "leaf", "--out", tmp_path / "leaf").returncode == 0
    whole = (issued / "www.example.com.crt").read_text()
    assert ((tmp_path / "leaf").read_text() + (tmp_path / "chain").read_text()).split() == whole.split()


REFUSED = {
    "alice.crt www.example.com.crt": (
        1,
        "there are 2 leaf certificates in alice.crt, www.example.com.crt (CN=alice, CN=www.example.com): give the files of",
    ),
    "alice.crt --form haproxy": (1, "the form haproxy holds the private key too: give its file"),
    "ca/intermediate.crt ca/intermediate.key --form haproxy": (1, "an authority's key is packed for nobody"),
    "alice.key": (1, "there is no certificate in alice.key: give its file too"),
    "alice.crt alice.key www.example.com.key": (
        1,
        "there are 2 different private keys in alice.crt, alice.key, www.example.com.key: give one",
    ),
    "alice.p12": (2, "alice.p12 needs a password, and there is no terminal to ask at: give --key-password-file FILE"),
    "alice.crt --form apache": (2, "Invalid value for '--form'"),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refused(issued: Path, tmp_path: Path, arguments: str) -> None:
    code, message = REFUSED[arguments]
    result = bundle(issued, *arguments.split(), "--out", tmp_path / "out")
    assert result.returncode == code
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_put_in_order_in_its_place(issued: Path, tmp_path: Path) -> None:
    path = tmp_path / "www.crt"
    wrong = (issued / "ca/intermediate.crt").read_text() + (issued / "www.example.com.crt").read_text()
    path.write_text(wrong)
    result = bundle(tmp_path, "www.crt", "--out", "www.crt")
    assert (result.returncode, result.stderr) == (1, "nlb: www.crt is there already; --force overwrites it\n")
    assert path.read_text() == wrong
    assert bundle(tmp_path, "www.crt", "--out", "www.crt", "--force").returncode == 0
    assert path.read_text().split() == (issued / "www.example.com.crt").read_text().split()


def test_a_private_key_is_not_replaced_by_certificates(issued: Path, tmp_path: Path) -> None:
    out = tmp_path / "alice.key"
    key = (issued / "alice.key").read_text()
    out.write_text(key)
    result = bundle(issued, "alice.crt", out, "--out", out, "--force")
    message = f"nlb: {out} holds a private key, which would be lost: choose another file for the certificates\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)
    assert out.read_text() == key
    assert bundle(issued, "alice.crt", out, "--out", out, "--force", "--form", "haproxy").returncode == 0
    assert key in out.read_text()
