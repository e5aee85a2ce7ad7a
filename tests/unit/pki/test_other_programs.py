"""What the authority makes, judged by programs that have nothing to do with it: OpenSSL (strict), GnuTLS, NSS, Python's ssl and a lint.

Every kind of key, both profiles, both lists; and each program that knows revocation refuses the revoked one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint.bin import lint_crl, lint_pkix_cert, lint_pkix_signer_signee_cert_chain

from nlbcore.pki import contents
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
from nlbcore.pki.names import Subject
from nlbcore.pki.outcome import Issued
from nlbcore.pki.words import KEY_TYPES
from tests.support.programs import run

HOST = "www.example.com"
FAST = ("ec-p256", "ec-p384", "rsa-2048", "ed25519")  # RSA of 3072 bits and more is the same, and takes seconds to make
assert set(FAST) <= set(KEY_TYPES)


@dataclass(frozen=True)
class Made:
    """An authority and what it has issued: a server, a client and a revoked client."""

    folder: Path
    authority: Authority
    server: Issued
    client: Issued
    former: Issued

    @property
    def root(self) -> str:
        return str(self.folder / "ca/root.crt")

    def single(self, issued: Issued) -> str:
        """The certificate alone in a file."""
        path = issued.certificate.with_suffix(".leaf")
        path.write_bytes(contents.load(issued.certificate).certificates[0].public_bytes(Encoding.PEM))
        return str(path)

    def lists(self) -> list[str]:
        """The lists of intermediate and root, each in a file."""
        found = contents.load(self.folder / "ca/ca.crl").of(x509.CertificateRevocationList)
        paths = [self.folder / f"{name}.crl" for name in ("intermediate", "root")]
        for path, one in zip(paths, found, strict=True):
            path.write_bytes(one.public_bytes(Encoding.PEM))
        return [str(path) for path in paths]


@pytest.fixture(scope="module", params=FAST)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    subject = Subject("DE", "Bayern", "München", "Beispiel GmbH", "Netz")
    mailbox = replace(subject, email="ca@example.com")
    authority = Authority.create(folder / "ca", name="Beispiel", subject=mailbox, key_type=kind)
    hosts, addresses = ("*.example.com", "bücher.example"), ("127.0.0.1", "2001:db8::1")
    server = authority.issue(Request("server", "server", HOST, subject, hosts, addresses), out=folder)
    uri, email = ["spiffe://example.com/client-1"], ["client-1@example.com"]
    wanted = Request("client", "client", "client-1.example.com", subject, uri=uri, email=email)
    client = authority.issue(wanted, out=folder)
    former = authority.issue(Request("former", "client", "former.example.com"), out=folder)
    authority.revoke("former", "keyCompromise")
    return Made(folder, authority, server, client, former)


def test_openssl(made: Made) -> None:
    """Strict, with the purpose, the names and the whole chain's lists."""
    crl = ("-crl_check_all", "-CRLfile", str(made.folder / "ca/ca.crl"))

    def verify(issued: Issued, *options: str) -> int:
        trust = ("-x509_strict", "-CAfile", made.root, "-untrusted", str(issued.certificate))
        return run("openssl", "verify", *trust, *options, str(issued.certificate), check=False).returncode

    for name in ("-verify_hostname=a.example.com", "-verify_hostname=xn--bcher-kva.example", "-verify_ip=2001:db8::1"):
        assert verify(made.server, *crl, "-purpose", "sslserver", *name.split("=")) == 0
    assert verify(made.client, *crl, "-purpose", "sslclient", "-verify_email", "client-1@example.com") == 0
    assert verify(made.server, "-purpose", "sslclient") != 0
    assert verify(made.client, "-purpose", "sslserver") != 0
    assert verify(made.former, *crl) != 0
    for path, signer in zip(made.lists(), ("intermediate", "root"), strict=True):
        told = run("openssl", "crl", "-in", path, "-verify", "-CAfile", str(made.folder / f"ca/{signer}.crt"), "-noout")
        assert b"verify OK" in told.stderr + told.stdout
    for issued in (made.server, made.client):
        run("openssl", "pkey", "-in", str(issued.private_key), "-check", "-noout")


def test_gnutls(made: Made) -> None:
    def verify(issued: Issued, purpose: str, *options: str) -> int:
        command = ["certtool", "--verify", "--verify-profile=medium", "--verify-purpose", f"1.3.6.1.5.5.7.3.{purpose}"]
        trust = ("--load-ca-certificate", made.root, "--infile", str(issued.certificate))
        return run(*command, *trust, *options, check=False).returncode

    assert verify(made.server, "1", "--verify-hostname", "a.example.com") == 0
    assert verify(made.server, "1", "--verify-hostname", "a.example.org") != 0
    assert verify(made.client, "2", "--verify-email", "client-1@example.com") == 0
    assert verify(made.client, "1") != 0
    for path, signer in zip(made.lists(), ("intermediate", "root"), strict=True):
        command = ("certtool", "--verify-crl", "--load-ca-certificate", str(made.folder / f"ca/{signer}.crt"))
        assert b"Verified. The certificate is trusted" in run(*command, "--infile", path).stdout
    lists = ("--load-crl", made.lists()[0])
    assert verify(made.client, "2", *lists) == 0
    assert verify(made.former, "2", *lists) != 0


def test_nss(made: Made, tmp_path: Path) -> None:
    """Firefox's library, with the lists in its store."""
    if "ed25519" in made.root:
        pytest.skip("Debian 12's NSS (3.87) knows no Ed25519 certificates")
    store = ("-d", f"sql:{tmp_path}")
    run("certutil", "-N", *store, "--empty-password")
    for name, path, trust in (
        ("root", made.root, "CT,,"),
        ("intermediate", str(made.folder / "ca/intermediate.crt"), ",,"),
        *((one.entry.name, made.single(one), ",,") for one in (made.server, made.client, made.former)),
    ):
        run("certutil", "-A", *store, "-n", name, "-t", trust, "-i", path)

    def verdict(name: str, usage: str) -> bytes:
        return run("certutil", "-V", *store, "-n", name, "-u", usage, "-e", check=False).stdout

    assert b"certificate is valid" in verdict("server", "V")
    assert b"certificate is valid" in verdict("client", "C")
    assert b"certificate is valid" in verdict("former", "C")
    assert b"certificate is valid" not in verdict("client", "V")
    for path in made.lists():
        run("openssl", "crl", "-in", path, "-outform", "DER", "-out", f"{path}.der")
        run("crlutil", "-I", *store, "-i", f"{path}.der")
    assert b"certificate is valid" in verdict("client", "C")
    assert b"revoked" in verdict("former", "C")


def test_python(made: Made) -> None:
    """A handshake of Python's ssl with itself: strict, both sides verified, lists of the whole chain."""
    strict = ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_CHAIN

    def shake(client: Issued) -> None:
        ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        theirs.verify_mode = ssl.CERT_REQUIRED
        for context, own in ((ours, client), (theirs, made.server)):
            context.load_verify_locations(made.root)
            context.load_verify_locations(made.folder / "ca/ca.crl")
            context.verify_flags |= strict
            context.load_cert_chain(own.certificate, own.private_key)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = [ours.wrap_bio(down, up, server_hostname="a.example.com"), theirs.wrap_bio(up, down, server_side=True)]
        steps: list[Callable[[], object]] = [side.do_handshake for side in sides]
        for _ in range(4):
            for step in steps:
                try:
                    step()
                except ssl.SSLWantReadError:
                    continue
        assert sides[1].getpeercert()

    shake(made.client)
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        shake(made.former)


# What pkilint holds against names that RFC 5280 does not describe but everybody uses: wildcards (RFC 6125) and SPIFFE.
ODD_NAMES = ('domain name syntax: "*.example.com"', 'URI syntax: "spiffe://example.com/client-1"')


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # pkilint leaves that to the collector
def test_lint(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """pkilint has nothing to say that is worse than a note, about certificates, pairs of signer and signed, and lists."""

    def lint(program: Callable[[list[str]], int], *arguments: str) -> None:
        code = program(["lint", "-s", "WARNING", *arguments])
        found = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
        assert [line for line in found if not line.endswith(ODD_NAMES)] == []
        assert code == len(found)

    for name in ("root", "intermediate"):
        lint(lint_pkix_cert.main, str(made.folder / f"ca/{name}.crt"))
    for issued in (made.server, made.client):
        lint(lint_pkix_cert.main, made.single(issued))
        pair = (str(made.folder / "ca/intermediate.crt"), made.single(issued))
        lint(lint_pkix_signer_signee_cert_chain.main, *pair)
    for path in made.lists():
        lint(lint_crl.main, "--profile", "PKIX", "--type", "CRL", path)
