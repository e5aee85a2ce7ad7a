"""`nlb cert csr`: a request that another authority signs, and what comes back makes a pair with the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run


def test_the_way_to_a_purchased_certificate(tmp_path: Path) -> None:
    """openssl is the other authority."""
    names = ("--dns", "www.example.com", "-C", "de", "--organization", "Ä")
    result = nlb("cert", "csr", "www", "--cn", "example.com", *names, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "www: certificate signing request for CN=example.com,O=Ä,C=DE\n"
        "  dns:example.com, dns:www.example.com\n"
        "  www.csr  the request: send it to the authority\n"
        "  www.key  private key: keep it\n"
    )
    ca = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Other")
    run("openssl", "req", *ca, "-keyout", "ca.key", "-out", "ca.crt", cwd=tmp_path)
    sign = ("-req", "-in", "www.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-copy_extensions", "copyall")
    run("openssl", "x509", *sign, "-out", "www.crt", cwd=tmp_path)
    run(
        "openssl",
        "verify",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "www.example.com",
        "-CAfile",
        "ca.crt",
        "www.crt",
        cwd=tmp_path,
    )
    shown = run("openssl", "x509", "-in", "www.crt", "-noout", "-pubkey", cwd=tmp_path).stdout
    assert shown == run("openssl", "pkey", "-in", "www.key", "-pubout", cwd=tmp_path).stdout


def test_json_and_a_key_that_is_there(tmp_path: Path) -> None:
    first = nlb("cert", "csr", "a.example", "--profile", "client", "--key-type", "ed25519", "--json", cwd=tmp_path)
    assert json.loads(first.stdout)["files"] == {"request": "a.example.csr", "private_key": "a.example.key"}
    again = nlb("cert", "csr", "a.example", "--key", "a.example.key", "--out", "new", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == {
        "subject": "CN=a.example",
        "sans": ["dns:a.example"],
        "files": {"request": "new/a.example.csr", "private_key": "a.example.key"},
    }
    keys = [
        run("openssl", "req", "-in", str(tmp_path / path), "-noout", "-pubkey").stdout
        for path in ("a.example.csr", "new/a.example.csr")
    ]
    assert keys[0] == keys[1]


def test_a_key_under_a_passphrase(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "wrong").write_text("geheim\n")
    key = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "file:password")
    run("openssl", "genpkey", *key, "-out", "a.key", cwd=tmp_path)
    arguments = ("cert", "csr", "a.example", "--key", "a.key")
    result = nlb(*arguments, cwd=tmp_path)
    message = "nlb: a.key needs a password, and there is no terminal to ask at: give --key-password-file FILE\n"
    assert (result.returncode, result.stderr) == (2, message)
    result = nlb(*arguments, "--key-password-file", "wrong", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        77,
        "nlb: the passphrase is not that of a.key, or the file is damaged\n",
    )
    assert nlb(*arguments, "--key-password-file", "password", cwd=tmp_path).returncode == 0
    run("openssl", "req", "-in", "a.example.csr", "-noout", "-verify", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("a b",), 2, 'NAME "a b" is not a host name, and clients ask for one: --dns or --ip gives it'),
        (
            ("a", "--dns", "a_b"),
            2,
            '--dns "a_b" is not a host name: a label is 1 to 63 letters, digits and inner hyphens',
        ),
        (("a", "--key", "k", "--key-type", "ed25519"), 2, "--key-type: the key of --key is of a kind already"),
        (("a", "--key", "k"), 1, "cannot read k: no such file or directory"),
        (("a", "--key-password-file", "k"), 2, "--key-password-file goes with --key: a new key has no passphrase"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = nlb("cert", "csr", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", f"nlb: {message}\n")
    assert [*tmp_path.iterdir()] == []
