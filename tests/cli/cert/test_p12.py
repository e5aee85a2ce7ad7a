"""`nlb cert p12`: bundles that OpenSSL, Java and NSS import, for either target, and refusals that write nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb
from tests.support.programs import run

TARGETS = ("modern", "legacy")


def p12(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return nlb("cert", "p12", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def bundles(issued: Path) -> Path:
    """The folder, with `modern.p12` and `legacy.p12` for `alice`."""
    for target in TARGETS:
        arguments = ("--target", target, "--password-file", "password", "--out", f"{target}.p12", "--name", "Alice's")
        result = p12(issued, "alice.crt", "alice.key", *arguments)
        assert (result.returncode, result.stderr) == (0, "")
    return issued


def test_what_it_says(issued: Path, tmp_path: Path) -> None:
    result = p12(issued, "alice.crt", "alice.key", "--password-file", "password", "--out", tmp_path / "a.p12")
    assert result.stdout == (
        f'{tmp_path}/a.p12: CN=alice, "alice", for modern importers, under the password\n'
        "  with CN=Example Intermediate\n"
        "  above it CN=Example, which is not in these files (a root need not be)\n"
    )
    assert (tmp_path / "a.p12").stat().st_mode & 0o777 == 0o600
    arguments = ("alice.key", "ca/root.crt", "--password-file", "password", "--out", tmp_path / "b.p12", "--json")
    result = p12(issued, "alice.crt", *arguments)
    assert json.loads(result.stdout) == {
        "file": f"{tmp_path}/b.p12",
        "target": "modern",
        "name": "alice",
        "subject": "CN=alice",
        "chain": ["CN=Example Intermediate"],
    }


@pytest.mark.parametrize("target", TARGETS)
def test_openssl_imports_it(bundles: Path, target: str) -> None:
    command = ["openssl", "pkcs12", "-in", f"{target}.p12", "-passin", "file:password", "-noenc"]
    text = run(*command, *(["-legacy"] if target == "legacy" else []), cwd=bundles).stdout.decode()
    assert "friendlyName: Alice's" in text
    assert text.count("BEGIN CERTIFICATE") == 2
    key = text[text.index("-----BEGIN PRIVATE KEY") :]
    assert key.split() == (bundles / "alice.key").read_text().split()


@pytest.mark.parametrize("target", TARGETS)
def test_nss_imports_it(bundles: Path, tmp_path: Path, target: str) -> None:
    """Firefox's and Chromium's store: the certificate is there with its key, and NSS finds it good for a client."""
    store = f"sql:{tmp_path}"
    run("certutil", "-N", "-d", store, "--empty-password")
    run("pk12util", "-i", str(bundles / f"{target}.p12"), "-d", store, "-w", str(bundles / "password"), "-K", "")
    run("certutil", "-A", "-d", store, "-n", "root", "-t", "CT,,", "-i", str(bundles / "ca/root.crt"))
    assert b"Alice's" in run("certutil", "-K", "-d", store).stdout
    told = run("certutil", "-V", "-d", store, "-n", "Alice's", "-u", "C", "-e").stdout
    assert b"certificate is valid" in told


@pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool is not installed, and not worth a JRE in CI")
@pytest.mark.parametrize("target", TARGETS)
def test_java_imports_it(bundles: Path, target: str) -> None:
    command = ["keytool", "-J-Xshare:auto", "-J-XX:TieredStopAtLevel=1", "-list", "-v", "-storetype", "PKCS12"]
    told = run(*command, "-keystore", str(bundles / f"{target}.p12"), "-storepass", "secret").stdout.decode()
    assert "Entry type: PrivateKeyEntry" in told
    assert "Certificate chain length: 2" in told
    assert "Alias name: alice's" in told


def test_a_bundle_is_packed_again_for_others(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("other\n")
    arguments = ("--target", "legacy", "--key-password-file", "password", "--password-file", tmp_path / "new")
    result = p12(bundles, "modern.p12", *arguments, "--out", tmp_path / "again.p12")
    assert (result.returncode, result.stderr) == (0, "")
    run("openssl", "pkcs12", "-legacy", "-in", str(tmp_path / "again.p12"), "-passin", "pass:other", "-noout")


def test_an_encrypted_key(issued: Path, tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    run("openssl", "pkey", "-in", "alice.key", "-aes256", "-passout", "file:password", "-out", str(key), cwd=issued)
    out = tmp_path / "a.p12"
    arguments = ("alice.crt", key, "--password-file", "password", "--out", out)
    result = p12(issued, *arguments)
    message = (
        "locked.key (as it is) needs a password, and there is no terminal to ask at: give --key-password-file FILE"
    )
    assert (result.returncode, result.stderr) == (2, f"nlb: {message}\n")
    assert p12(issued, *arguments, "--key-password-file", "password").returncode == 0
    result = p12(issued, *arguments, "--key-password-file", "alice.crt", "--force")
    assert (result.returncode, result.stderr) == (
        1,
        f"nlb: {key}: the passphrase of the private key is wrong, or the file is damaged\n",
    )


REFUSED = {
    "alice.crt": (1, "there is no private key in alice.crt: give its file too"),
    "alice.crt www.example.com.key": (
        1,
        "the private key belongs to none of the certificates in alice.crt, www.example.com.key",
    ),
    "ca/intermediate.crt ca/intermediate.key": (
        1,
        "CN=Example Intermediate is an authority, and an authority's key is packed for nobody: who has it can make any certificate",
    ),
    "alice.key": (1, "there is no certificate in alice.key: give its file too"),
    "nothing alice.key": (1, "cannot read nothing: no such file or directory"),
    "alice.crt alice.key --target windows": (2, "Invalid value for '--target'"),
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refused(issued: Path, tmp_path: Path, arguments: str) -> None:
    code, message = REFUSED[arguments]
    out = tmp_path / "out.p12"
    result = p12(issued, *arguments.split(), "--password-file", "password", "--out", out)
    assert result.returncode == code
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_no_password_asked_for_it(issued: Path) -> None:
    before = (issued / "alice.p12").read_bytes()
    result = p12(issued, "alice.crt", "alice.key")
    assert (result.returncode, result.stderr) == (1, "nlb: alice.p12 is there already; --force overwrites it\n")
    assert (issued / "alice.p12").read_bytes() == before


def test_a_full_disk_leaves_the_old_file(issued: Path, tmp_path: Path) -> None:
    """A file size limit stands for the disk: the old bundle is whole, and nothing else is left."""
    out = tmp_path / "a.p12"
    out.write_text("old")
    script = (
        'ulimit -f 0; trap "" XFSZ; exec "$0" cert p12 alice.crt alice.key --password-file password --force --out "$1"'
    )
    done = subprocess.run(
        ["bash", "-c", script, NLB, out], cwd=issued, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr) == (1, f"nlb: cannot write {out}: file too large\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.p12", "old")]
