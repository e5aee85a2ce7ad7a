"""Signing requests: ours are what openssl takes, and of others' only what the profile allows gets into a certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nlbcore.pki import contents, index, inspect, keys, requests
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request
from nlbcore.pki.names import Subject
from nlbcore.pki.words import KEY_TYPES
from tests.support.programs import run

Builder = x509.CertificateSigningRequestBuilder
PURPOSE = {"server": "sslserver", "client": "sslclient"}


def subject(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


ALICE = subject((NameOID.COMMON_NAME, "alice"))


def written(
    path: Path, builder: Builder, key: keys.PrivateKey | None = None, encoding: Encoding = Encoding.PEM
) -> Path:
    key = key or keys.new("ec-p256")
    path.write_bytes(builder.sign(key, keys.digest(key)).public_bytes(encoding))
    return path


# -- ours -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KEY_TYPES if kind not in {"rsa-3072", "rsa-4096"}])
@pytest.mark.parametrize("profile", ["server", "client"])
def test_made_and_signed(tmp_path: Path, authority: Authority, kind: str, profile: str) -> None:
    request = Request("www", profile, "www.example.com", Subject("de", organization="Ä"), ip=["::1"], key_type=kind)
    made = requests.write(request, out=tmp_path / "new")
    assert (made.request, made.private_key) == (tmp_path / "new/www.csr", tmp_path / "new/www.key")
    assert {path.stat().st_mode & 0o777 for path in (made.request, made.private_key)} == {0o600}
    shown = run("openssl", "req", "-in", str(made.request), "-noout", "-verify", "-text")
    assert b"verify OK" in shown.stdout + shown.stderr
    assert b"DNS:www.example.com, IP Address:0:0:0:0:0:0:0:1" in shown.stdout
    issued = authority.sign(made.request, profile, name="www", out=tmp_path / "signed")
    assert (issued.new_key, issued.left_out) == (False, ())
    assert [path.name for path in (tmp_path / "signed").iterdir()] == ["www.crt"]
    assert issued.entry.subject == "CN=www.example.com,O=Ä,C=DE"
    assert issued.entry.sans == ("dns:www.example.com", "ip:::1")
    keys.load(made.private_key, x509.load_pem_x509_certificate(issued.certificate.read_bytes()))
    trust = ("-CAfile", str(authority.folder / "root.crt"), "-untrusted", str(issued.certificate))
    run("openssl", "verify", "-x509_strict", "-purpose", PURPOSE[profile], *trust, str(issued.certificate))


def test_for_a_key_that_is_there(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("www", "server"), out=tmp_path)
    made = requests.write(Request("next", "server"), out=tmp_path, key_file=issued.private_key)
    assert made.private_key == issued.private_key
    assert not (tmp_path / "next.key").exists()
    request = x509.load_pem_x509_csr(made.request.read_bytes())
    assert keys.matches(keys.read_private(issued.private_key), request)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    request = Request("www", "server")
    for suffix in ("csr", "key"):
        path = tmp_path / f"www.{suffix}"
        path.write_text("precious")
        with pytest.raises(PkiError, match=f"www.{suffix} is there already; --force overwrites it"):
            requests.write(request, out=tmp_path)
        assert [one.read_text() for one in tmp_path.iterdir()] == ["precious"]
        path.unlink()
    requests.write(request, out=tmp_path)
    requests.write(request, out=tmp_path, force=True)
    with pytest.raises(BadValue, match=r'cn "a b" is not a host name'):
        requests.write(Request("a b", "server"), out=tmp_path)


# -- others' ----------------------------------------------------------------------------------------------------------


def test_openssls_own(tmp_path: Path, authority: Authority) -> None:
    """The documented flow's request: a common name and nothing else. It becomes an alternative name."""
    key, csr = str(tmp_path / "k"), str(tmp_path / "server.csr")
    run(
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        csr,
        "-subj",
        "/C=CN/CN=www.a.test",
    )
    issued = authority.sign(Path(csr), "server", name="server", out=tmp_path)
    assert (issued.entry.subject, issued.entry.sans) == ("CN=www.a.test,C=CN", ("dns:www.a.test",))
    leaf = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment


def test_only_what_the_profile_allows(tmp_path: Path, authority: Authority) -> None:
    """Who asks to be an authority, a signer of code, or somebody else's directory name gets none of it."""
    everything = x509.KeyUsage(*[True] * 9)
    builder = (
        Builder(
            subject(
                (NameOID.COMMON_NAME, "alice"),
                (NameOID.USER_ID, "root"),
                (NameOID.ORGANIZATION_NAME, "Example"),
            )
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(everything, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("WWW.Example.COM"),
                    x509.DirectoryName(ALICE),
                    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
                    x509.UniformResourceIdentifier("spiffe://example.com/alice"),
                ]
            ),
            critical=False,
        )
    )
    issued = authority.sign(written(tmp_path / "a.csr", builder), "client", name="alice", out=tmp_path)
    assert issued.entry.sans == ("dns:alice", "dns:www.example.com", "uri:spiffe://example.com/alice")
    assert issued.entry.subject == "O=Example,CN=alice"
    assert sorted(issued.left_out) == [
        "alternative name: DirectoryName",
        "alternative name: RegisteredID",
        "basicConstraints: to be an authority",
        "extendedKeyUsage: codeSigning",
        "extension 1.2.3.4",
        "keyUsage: to sign certificates or lists",
        "subject: 0.9.2342.19200300.100.1.1",
    ]
    leaf = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    extensions = {type(one.value): one.value for one in leaf.extensions}
    assert len(extensions) == 6
    assert extensions[x509.BasicConstraints] == x509.BasicConstraints(ca=False, path_length=None)
    assert [*extensions[x509.ExtendedKeyUsage]] == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not (usage.key_cert_sign or usage.crl_sign or usage.key_encipherment or usage.key_agreement)
    assert issued.as_dict()["left_out"] == list(issued.left_out)


def test_without_a_subject(tmp_path: Path, authority: Authority) -> None:
    """As SPIFFE's are: the alternative names are all there is, and so they are critical (RFC 5280, 4.2.1.6)."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.com/x")])
    path = written(
        tmp_path / "x.csr", Builder(x509.Name([])).add_extension(names, critical=True), encoding=Encoding.DER
    )
    issued = authority.sign(path, "client", name="x", out=tmp_path)
    assert (issued.entry.subject, issued.entry.sans) == ("", ("uri:spiffe://example.com/x",))
    leaf = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    trust = ("-CAfile", str(authority.folder / "root.crt"), "-untrusted", str(issued.certificate))
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", *trust, str(issued.certificate))


def _with_san(*names: x509.GeneralName) -> Builder:
    return Builder(ALICE).add_extension(x509.SubjectAlternativeName(names), critical=False)


@pytest.mark.parametrize(
    ("make", "profile", "message"),
    [
        (
            lambda path: written(path, Builder(subject((NameOID.COMMON_NAME, "a b")))),
            "server",
            "FILE names no host and no",
        ),
        (
            lambda path: written(path, Builder(x509.Name([]))),
            "client",
            "FILE has neither a subject nor alternative names",
        ),
        (
            lambda path: written(path, Builder(subject(*[(NameOID.COMMON_NAME, name) for name in ("alice", "admin")]))),
            "client",
            'FILE: cn "admin" is the second common name, and a certificate has one',
        ),
        (lambda path: written(path, _with_san(x509.DNSName("a_b"))), "client", 'FILE: dns "a_b" is not a host name'),
        (lambda path: written(path, _with_san(x509.DNSName("*.com"))), "client", 'FILE: dns "*.com": a wildcard needs'),
        (lambda path: written(path, _with_san(x509.RFC822Name("x"))), "client", 'FILE: email "x" is not an e-mail'),
    ],
)
def test_names_that_are_none(tmp_path: Path, make: Callable[[Path], Path], profile: str, message: str) -> None:
    path = make(tmp_path / "a.csr")
    with pytest.raises(PkiError) as caught:
        requests.load(path, profile)
    assert str(caught.value).startswith(message.replace("FILE", str(path)))


# Made when they are needed: collecting the tests makes no keys.
WEAK: dict[str, tuple[Callable[[], object], str]] = {
    "rsa-1024": (lambda: rsa.generate_private_key(65537, 1024), "its RSA key has 1024 bits: 2048 is the least"),
    "exponent": (lambda: rsa.generate_private_key(3, 2048), "its RSA key has the exponent 3: 65537 is the least"),
    "secp224r1": (lambda: ec.generate_private_key(ec.SECP224R1()), "its curve is secp224r1: P-256, P-384 and P-521"),
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()), "its curve is secp256k1: P-256"),
    "dsa": (lambda: dsa.generate_private_key(1024), "its key is of a kind that TLS does not sign with"),
    "ed448": (ed448.Ed448PrivateKey.generate, "its key is of a kind that TLS does not sign with"),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_key(tmp_path: Path, authority: Authority, kind: str) -> None:
    make, message = WEAK[kind]
    path = tmp_path / "a.csr"
    digest = None if kind == "ed448" else hashes.SHA256()
    path.write_bytes(Builder(ALICE).sign(make(), digest).public_bytes(Encoding.PEM))  # type: ignore[arg-type]
    with pytest.raises(PkiError) as caught:
        authority.sign(path, "client", name="a", out=tmp_path)
    assert str(caught.value).startswith(f"{path} is refused: {message}")
    assert not (tmp_path / "a.crt").exists()


def test_a_bad_signature(tmp_path: Path) -> None:
    """The last byte is another: nobody has shown to hold the key."""
    path = written(tmp_path / "a.csr", Builder(ALICE), encoding=Encoding.DER)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PkiError, match=r"is refused: its signature is not that of its key"):
        requests.load(path, "client")


@pytest.mark.parametrize(("digest", "name"), [("md5", "MD5"), ("sha1", "SHA-1")])
def test_a_digest_that_can_be_forged(tmp_path: Path, digest: str, name: str) -> None:
    """The signature is that of the key, and told as such; what is wrong is how it was made."""
    path = tmp_path / "a.csr"
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "a.key"))
    run("openssl", "req", "-new", f"-{digest}", *key, "-subj", "/CN=alice", "-out", str(path))
    with pytest.raises(PkiError) as caught:
        requests.load(path, "client")
    message = f"is refused: it is signed with {name}, which can be forged; make it again with SHA-256"
    assert str(caught.value) == f"{path} {message}"
    assert inspect.describe_file(contents.load(path), index.now())["parts"][0]["signature_valid"]


def test_what_is_no_request(tmp_path: Path, authority: Authority) -> None:
    path = written(tmp_path / "a.csr", Builder(ALICE), encoding=Encoding.DER)
    whole = path.read_bytes()
    for data, message in [
        (b"", r"a.csr is not a certificate signing request \(PKCS#10\), or a damaged one"),
        (b"garbage", "a.csr is not a certificate signing request"),
        (whole[:-5], "a.csr is not a certificate signing request"),
        ((authority.folder / "root.crt").read_bytes(), "a.csr is a certificate, not a certificate signing request"),
        ((authority.folder / "root.key").read_bytes(), "a.csr is not a certificate signing request"),
    ]:
        path.write_bytes(data)
        with pytest.raises(PkiError, match=message) as caught:
            requests.load(path, "client")
        assert "PRIVATE" not in str(caught.value)
    with pytest.raises(PkiError, match=r"cannot read .*none: no such file"):
        requests.load(tmp_path / "none", "client")


def test_every_byte_that_is_another_is_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever a stranger sends ends in a sentence, and its names are those that its key has signed."""
    path = written(tmp_path / "a.csr", _with_san(x509.DNSName("a.example")), encoding=Encoding.DER)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(PkiError):
            requests.load(path, "client")
