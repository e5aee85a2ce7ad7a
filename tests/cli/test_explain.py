"""`nlb explain` as it is typed: every form of certificate, exit codes, what is said and what cannot be known."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.support.balancer import NLB, nlb, server_group, tls_listener
from tests.support.certs import Issued, Pki, pem
from tests.support.toml import to_toml


@pytest.fixture(scope="module")
def folder(module_folder: Path, pki: Pki) -> Path:
    """With a configuration of one listener that allows some."""
    tables = {
        "node": {"control_socket": "nlb.sock"},
        "listeners": {
            "web": tls_listener(
                pki.server, ca=pki.root.path, client_auth={"allow": ["cn:x", "cn:client-*"], "deny": "cn:client-9"}
            )
        },
        "server_groups": {"app": server_group({"address": "127.0.0.1:9"})},
    }
    (module_folder / "nlb.toml").write_text(to_toml(tables))
    return module_folder


def forms(folder: Path, issued: Issued) -> dict[str, list[str]]:
    (folder / "c.pem").write_bytes(pem(issued.certificate))
    (folder / "c.der").write_bytes(issued.der)
    (folder / "c.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"c", issued.key, issued.certificate, None, BestAvailableEncryption(b"pw")
        )
    )
    (folder / "password").write_text("pw\n")
    (folder / "password").chmod(0o600)
    return {"pem": ["c.pem"], "der": ["c.der"], "p12": ["c.p12", "--password-file", "password"]}


@pytest.mark.parametrize("form", ["pem", "der", "p12"])
def test_accepted(folder: Path, pki: Pki, form: str) -> None:
    done = nlb("explain", *forms(folder, pki.client)[form], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accepted by web\n" in done.stdout
    assert "allow[1] cn:client-*" in done.stdout
    assert "CN=client-1" in done.stdout
    assert "CN=Test Root" in done.stdout
    assert "whether the client holds the private key" in done.stdout


def test_refused_from_the_standard_input(folder: Path, pki: Pki) -> None:
    done = subprocess.run(
        [NLB, "explain", "-", "--json"],
        cwd=folder,
        input=pki.root.client("client-9").path.read_bytes(),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    told = json.loads(done.stdout)
    assert (told["word"], told["detail"], told["accepted"]) == ("denied", "deny[0] cn:client-9", False)
    assert {stage["name"]: stage["result"] for stage in told["stages"]} == {
        "certificate": "passed",
        "chain": "passed",
        "purpose": "passed",
        "strength": "passed",
        "signatures": "passed",
        "dates": "passed",
        "revocation": "not configured",
        "rules": "failed",
    }
    assert told["advice"]
    assert "whether the client holds the private key" in told["not_tested"]


@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_at_another_time(folder: Path, pki: Pki, zone: str) -> None:
    """A date, a time, Unix seconds: the answer says which."""
    forms(folder, pki.client)
    end = pki.client.certificate.not_valid_after_utc
    late = end.replace(year=end.year + 1)
    for text, shown in (
        (f"{late:%Y-%m-%d}", f"{late:%Y-%m-%d}T00:00:00Z"),
        (f"{late:%Y-%m-%dT%H:%M:%S}{zone}", f"{late:%Y-%m-%dT%H:%M:%S}Z"),
        (f"{late.timestamp():.0f}", f"{late:%Y-%m-%dT%H:%M:%S}Z"),
    ):
        done = nlb("explain", "c.pem", "--at", text, cwd=folder)
        assert (done.returncode, done.stderr) == (1, "")
        assert f"c.pem: refused by web at {shown}: expired\n" in done.stdout
    told = json.loads(nlb("explain", "c.pem", "--at", text, "--json", cwd=folder).stdout)
    assert (told["at"], told["word"]) == (shown, "expired")
    assert "at" not in json.loads(nlb("explain", "c.pem", "--json", cwd=folder).stdout)


def test_intermediates_beside_it(folder: Path, pki: Pki) -> None:
    """As the client would send them; without them it is refused."""
    leaf, above = folder / "leaf.pem", folder / "above.pem"
    leaf.write_bytes(pem(pki.intermediate.client("client-7").certificate))
    above.write_bytes(pem(pki.intermediate.certificate))
    alone = nlb("explain", leaf, cwd=folder)
    assert (alone.returncode, "refused by web: unknown_ca" in alone.stdout) == (1, True), alone
    assert "not reached" in alone.stdout
    assert "What to do: let the client send its intermediates" in alone.stdout
    assert nlb("explain", leaf, "--chain", above, cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing.pem"], 1, "nothing.pem"),
        (["nlb.toml"], 1, "holds no certificate"),
        (["spoilt.pem"], 1, "spoilt.pem: a certificate is damaged"),
        (["c.pem", "--chain", "spoilt.pem"], 1, "spoilt.pem: a certificate is damaged"),
        (["c.p12"], 1, "give --password-file"),
        (["c.pem", "--listener", "wbe"], 1, "there is no listener wbe with TLS; there are: web"),
        (["c.pem", "-c", "plain.toml"], 1, "no listener of the configuration has TLS"),
        (["c.pem", "-c", "bad.toml"], 78, "bad.toml cannot be used"),
        (["c.pem", "--at", "tomorrow"], 2, '--at "tomorrow" is not a date'),
        ([], 2, "CERT"),
    ],
)
def test_what_goes_wrong(folder: Path, pki: Pki, arguments: list[str], code: int, words: str) -> None:
    forms(folder, pki.client)
    spoilt = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (folder / "spoilt.pem").write_text(spoilt + pki.client.path.read_text())
    (folder / "bad.toml").write_text("[listeners.web]\n")
    plain = 'listeners.web = { bind = "127.0.0.1:1", server_group = "app", protocol = "TCP" }\n'
    plain += 'server_groups.app.servers = [{ address = "127.0.0.1:2" }]\n'
    (folder / "plain.toml").write_text(plain)
    done = nlb("explain", *arguments, cwd=folder)
    assert done.returncode == code, done
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
