"""`nlb cert sign`: of a request, what the profile allows; the rest is told or refused."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.balancer import nlb
from tests.support.programs import run


def test_sign(folder: Path) -> None:
    nlb("cert", "csr", "alice", "--profile", "client", cwd=folder)
    result = nlb("cert", "sign", "alice.csr", "--ca", "ca", "--profile", "client", "--days", "3", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("alice: client certificate ")
    assert result.stdout.endswith("  alice.crt  certificate and intermediate\n")
    trust = ("-CAfile", "ca/root.crt", "-untrusted", "alice.crt")
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", *trust, "alice.crt", cwd=folder)


def test_what_is_left_out_is_told(folder: Path) -> None:
    (folder / "req.cnf").write_text(
        "[req]\ndistinguished_name=dn\nreq_extensions=e\nprompt=no\n[dn]\nCN=www.a.test\n[e]\n"
        "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=codeSigning\nsubjectAltName=DNS:a.test\n"
    )
    command = ("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-config", "req.cnf")
    run(*command, "-keyout", "k", "-out", "r.csr", cwd=folder)
    result = nlb("cert", "sign", "r.csr", "--ca", "ca", "--profile", "server", "--name", "www", "--json", cwd=folder)
    assert result.returncode == 0
    assert result.stderr == (
        "nlb: left out of the certificate: basicConstraints: to be an authority\n"
        "nlb: left out of the certificate: extendedKeyUsage: codeSigning\n"
    )
    shown = json.loads(result.stdout)
    assert (shown["name"], shown["sans"]) == ("www", ["dns:www.a.test", "dns:a.test"])
    assert shown["files"] == {"certificate": "www.crt"}
    trust = ("-CAfile", "ca/root.crt", "-untrusted", "www.crt", "-verify_hostname", "a.test")
    run("openssl", "verify", "-x509_strict", "-purpose", "sslserver", *trust, "www.crt", cwd=folder)


def test_refused(folder: Path) -> None:
    run(
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-keyout",
        "k",
        "-out",
        "weak.csr",
        "-subj",
        "/CN=x",
        cwd=folder,
    )
    (folder / "garbage.csr").write_text("garbage")
    (folder / "root.csr").write_text("garbage")
    sign = ("cert", "sign", "--ca", "ca", "--profile", "client")
    for arguments, code, message in [
        (
            ("weak.csr",),
            1,
            "nlb: weak.csr is refused: its RSA key has 1024 bits: 2048 is the least that clients and servers accept\n",
        ),
        (("garbage.csr",), 1, "nlb: garbage.csr is not a certificate signing request (PKCS#10), or a damaged one\n"),
        (("none.csr",), 1, "nlb: cannot read none.csr: no such file or directory\n"),
        (("root.csr",), 2, 'nlb: FILE "root": the authority\'s own files are called that; choose another name\n'),
        (("weak.csr", "--name", "a/b"), 2, 'nlb: --name "a/b": it names the files'),
    ]:
        result = nlb(*sign, *arguments, cwd=folder)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert result.stderr.startswith(message)
    assert (folder / "ca/index").read_text().count("\n") == 1
