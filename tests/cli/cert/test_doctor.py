"""`nlb cert doctor`: the openssl flow of the manuals with all its defects named, what nlb makes without any, and exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run

# Steps of the reference flow as they are documented: a common name and nothing else.
FLOW = """\
openssl genrsa -out root.key 2048
openssl req -x509 -new -key root.key -days 3650 -subj /CN=Reference-Root -out root.crt
openssl genrsa -out server.key 2048
openssl req -new -key server.key -subj /CN=www.example.com -out server.csr
openssl x509 -req -in server.csr -out server.crt -CA root.crt -CAkey root.key -CAcreateserial -days 3650
openssl x509 -req -in server.csr -out signed.crt -signkey server.key -days 3650
openssl genrsa -out client.key 2048
openssl req -new -key client.key -subj /CN=client-1 -out client.csr
openssl x509 -req -in client.csr -out client.crt -CA root.crt -CAkey root.key -CAcreateserial -days 30
openssl pkcs12 -export -clcerts -in client.crt -inkey client.key -out client.p12 -passout pass:secret
"""


def doctor(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "doctor", *arguments, cwd=folder)


def findings(folder: Path, *arguments: str | Path) -> dict[str, list[Any]]:
    return {one["file"]: one["findings"] for one in json.loads(doctor(folder, *arguments, "--json").stdout)}


@pytest.fixture(scope="module")
def flow(module_folder: Path) -> Path:
    folder = module_folder / "flow"
    folder.mkdir()
    for step in FLOW.splitlines():
        run(*step.split(), cwd=folder)
    for key in folder.glob("*.key"):
        key.chmod(0o644)
    (folder / "password").write_text("secret\n")
    return folder


def test_the_documented_flow(flow: Path) -> None:
    """Each defect of it has its name; the root's key lies beside everything."""
    files = ("server.crt", "signed.crt", "client.crt", "client.p12", "root.crt", "server.key", "server.csr")
    found = findings(flow, *files, "--password-file", "password")
    codes = {file: {one["code"] for one in defects} for file, defects in found.items()}
    bare = {"v1", "no-san", "no-eku", "no-basic-constraints"}
    assert codes == {
        "server.crt": bare | {"long-life", "ca-key-beside"},
        "signed.crt": bare | {"long-life", "self-signed"},
        "client.crt": bare | {"ca-key-beside"},
        "client.p12": bare | {"ca-key-beside", "p12-modern"},
        "root.crt": {"authority-not-strict", "ca-key-beside"},
        "server.key": {"key-mode"},
        "server.csr": {"no-san"},
    }
    assert [one["severity"] for one in found["server.crt"]] == sorted(
        (one["severity"] for one in found["server.crt"]), key=("error", "warning", "note").index
    )


def test_it_still_loads_where_openssl_accepts_it(flow: Path) -> None:
    """A listener takes the flow's server certificate and root as they are; that browsers do not is a warning of verify."""
    (flow / "server.key").chmod(0o600)
    (flow / "nlb.toml").write_text(
        'listeners.web.bind = "127.0.0.1:8443"\nlisteners.web.server_group = "app"\n'
        'listeners.web.certificates = [{ certificate = "server.crt", private_key = "server.key" }]\n'
        'listeners.web.client_auth = { mode = "required", ca = "root.crt" }\n'
        'server_groups.app.servers = [{ address = "127.0.0.1:8001" }]\n'
    )
    checked = nlb("check", "-c", "nlb.toml", cwd=flow)
    (flow / "server.key").chmod(0o644)
    assert checked.returncode == 0, checked.stdout
    for name, purpose, code in (("server", "server", 1), ("client", "client", 2)):
        openssl = ("openssl", "verify", "-CAfile", "root.crt", "-purpose", f"ssl{purpose}", f"{name}.crt")
        assert run(*openssl, cwd=flow, check=False).returncode == 0
        result = nlb("cert", "verify", f"{name}.crt", "--ca-file", "root.crt", "--purpose", purpose, cwd=flow)
        assert result.returncode == code, result.stdout


def test_every_cure_is_a_command_that_there_is(flow: Path) -> None:
    """The nlb commands know their words; `nlb cert csr` and the like may come with DIR, NAME or FILE to fill in."""
    found = findings(flow, "server.crt", "client.p12", "root.crt", "server.key", "--password-file", "password")
    cures = {one["fix"] for defects in found.values() for one in defects}
    assert {shlex.split(cure)[0] for cure in cures} == {"nlb", "chmod"}
    for cure in cures:
        words = shlex.split(cure)
        if words[0] == "nlb":
            done = nlb(*words[1:3], "--help")
            assert done.returncode == 0, cure
            for option in words[3:]:
                assert not option.startswith("--") or option in done.stdout, cure


def test_the_cure_of_a_server_cures_it(flow: Path, tmp_path: Path) -> None:
    """What doctor proposes, with an authority for DIR, makes a certificate that doctor finds nothing in."""
    (fix,) = {one["fix"] for one in findings(flow, "server.crt")["server.crt"] if one["code"] == "no-san"}
    assert fix == "nlb cert issue www.example.com --ca DIR --profile server"
    assert nlb("ca", "init", "DIR", cwd=tmp_path).returncode == 0
    assert nlb(*shlex.split(fix)[1:], cwd=tmp_path).returncode == 0
    result = doctor(tmp_path, "www.example.com.crt", "www.example.com.key")
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        result.stdout
        == "www.example.com.crt: nothing is wrong with it\n\nwww.example.com.key: nothing is wrong with it\n"
    )


def test_in_words(flow: Path) -> None:
    result = doctor(flow, "server.csr")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        "server.csr: 1 finding\n"
        "  warning  CN=www.example.com: it asks for no alternative names\n"
        "           an authority that adds none makes a certificate that browsers and most clients refuse as a server\n"
        "           -> nlb cert csr server\n"
    )
    told = doctor(flow, "signed.crt").stdout
    assert told.count("-> ") == 1, "one command for all that it makes right"


def test_what_nlb_makes(issued: Path) -> None:
    """A note is no reason to fail."""
    files = ("alice.crt", "alice.key", "alice.p12", "www.example.com.crt", "ca/root.crt", "ca/root.key", "ca/ca.crl")
    result = doctor(issued, *files, "--password-file", "password", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert [(one["code"], one["severity"]) for file in shown for one in file["findings"]] == [("p12-modern", "note")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'FILE...'"),
        (("alice.crt", "--nonsense"), "No such option '--nonsense'"),
        (("nothing",), "nlb: cannot read nothing: no such file or directory\n"),
        (("password",), "nlb: password holds no certificate, request, revocation list or key: neither PEM nor DER\n"),
        (
            ("alice.p12", "--password-file", "alice.crt"),
            "nlb: alice.p12: the password is wrong, or the file is damaged\n",
        ),
    ],
)
def test_what_cannot_be_found_out(issued: Path, arguments: tuple[str, ...], message: str) -> None:
    result = doctor(issued, *arguments)
    assert (result.returncode, result.stdout) == (3, "")
    assert message in result.stderr


def test_what_can_be_read_is_examined(issued: Path, flow: Path) -> None:
    """A folder means its files; what is none of the kind is told if it was named, and no error is hidden by it."""
    result = doctor(issued, "ca", "nothing")
    assert (result.returncode, result.stderr) == (3, "nlb: cannot read nothing: no such file or directory\n")
    names = [line.partition(":")[0] for line in result.stdout.splitlines() if line.endswith("nothing is wrong with it")]
    assert {"ca/root.crt", "ca/root.key", "ca/chain.crt", "ca/ca.crl"} <= set(names)
    assert not {"ca/ca.toml", "ca/index"} & set(names)
    assert doctor(flow, "server.crt", "nothing").returncode == 2
    result = doctor(issued, "empty")
    assert result.returncode == 3
    (issued / "empty").mkdir()
    result = doctor(issued, "empty")
    assert result.stderr == "nlb: empty holds no file with a certificate, request, revocation list or key\n"
