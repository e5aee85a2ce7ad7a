"""What is in a file: every form, comments around and several in one, damaged parts, locked bundles, hostile sizes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlbcore.pki import contents, der, doctor, inspect, verify
from nlbcore.pki.authority import Authority
from nlbcore.pki.contents import Contents, Damaged, Key, load
from nlbcore.pki.errors import PkiError
from nlbcore.pki.index import now
from nlbcore.pki.issue import Request
from nlbcore.pki.outcome import Issued
from nlbcore.pki.verify import Question
from tests.support.programs import run


@pytest.fixture
def alice(tmp_path: Path, authority: Authority) -> Issued:
    """A client with its bundle (password: secret)."""
    return authority.issue(Request("alice", "client"), out=tmp_path, p12_password="secret")


def openssl(folder: Path, *arguments: str) -> None:
    run("openssl", *arguments, cwd=folder)


def kinds(loaded: Contents) -> list[str]:
    return [type(part).__name__ for part in loaded.parts]


FORMS: dict[str, tuple[str, list[str]]] = {
    "x509 -in alice.crt -outform DER": ("DER", ["Certificate"]),
    "x509 -in alice.crt -trustout -addtrust clientAuth": ("PEM", ["Certificate"]),
    "x509 -in alice.crt -text": ("PEM", ["Certificate"]),
    "crl2pkcs7 -nocrl -certfile alice.crt": ("PEM", ["Certificate", "Certificate"]),
    "crl2pkcs7 -nocrl -certfile alice.crt -outform DER": ("PKCS#7", ["Certificate", "Certificate"]),
    "req -new -key alice.key -subj /CN=x": ("PEM", ["CertificateSigningRequest"]),
    "req -new -key alice.key -subj /CN=x -outform DER": ("DER", ["CertificateSigningRequest"]),
    "crl -in ca/ca.crl -outform DER": ("DER", ["CertificateRevocationList"]),
    "pkey -in alice.key -outform DER": ("DER", ["Key"]),
    "ec -in alice.key": ("PEM", ["Key"]),
    "pkcs12 -in alice.p12 -passin pass:secret -noenc": ("PEM", ["Certificate", "Certificate", "Key"]),
}


@pytest.mark.parametrize("command", FORMS)
def test_forms(tmp_path: Path, authority: Authority, alice: Issued, command: str) -> None:
    """What openssl writes is read, with whatever it writes around it."""
    authority.crl()
    openssl(tmp_path, *command.split(), "-out", "file")
    loaded = load(tmp_path / "file")
    assert (loaded.form, kinds(loaded)) == FORMS[command]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    order=st.permutations(range(4)),
    noise=st.lists(st.sampled_from([b"", b"\xef\xbb\xbf", b"Bag\n", b"\r\n", b"# \xff\n"])),
)
def test_any_order_and_anything_between(
    tmp_path: Path, authority: Authority, order: list[int], noise: list[bytes]
) -> None:
    certificates = [authority.root, authority.intermediate]
    folder = authority.folder
    blocks = [(folder / name).read_bytes() for name in ("root.crt", "intermediate.crt", "root.key", "intermediate.key")]
    data = b"".join(
        (noise[number] if number < len(noise) else b"") + blocks[place] for number, place in enumerate(order)
    )
    (tmp_path / "file").write_bytes(data.replace(b"\n", b"\r\n") if len(noise) % 2 else data)
    loaded = load(tmp_path / "file")
    assert loaded.certificates == [certificates[place] for place in order if place < 2]
    assert len(loaded.keys) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(cn=st.text(min_size=1, max_size=16).filter(lambda text: text.strip() and text.isprintable()))
def test_names_survive_every_form(tmp_path: Path, authority: Authority, cn: str) -> None:
    """PEM, DER and PKCS#12 give back the same certificate and key, whatever it is called."""
    issued = authority.issue(Request("x", "client", cn), out=tmp_path, p12_password=cn, force=True)
    certificate = load(issued.certificate).certificates[0]
    assert certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == cn
    (tmp_path / "x.der").write_bytes(certificate.public_bytes(Encoding.DER))
    assert load(tmp_path / "x.der").certificates == [certificate]
    assert issued.p12
    bundle = load(issued.p12, lambda: cn)
    assert bundle.certificates == [certificate, authority.intermediate]
    (key,) = bundle.keys
    assert key.private_numbers() == load(issued.private_key).keys[0].private_numbers()


def test_a_bundle_stays_closed_without_its_password(alice: Issued) -> None:
    assert alice.p12
    loaded = load(alice.p12)
    assert (loaded.form, loaded.parts, loaded.keys) == ("PKCS#12", (), [])
    assert loaded.bundle
    assert (loaded.bundle.opened, str(loaded.bundle.protection)) == (False, "AES-256, SHA-256 MAC, 2048 rounds")
    with pytest.raises(PkiError, match=r"alice.p12: the password is wrong, or the file is damaged"):
        load(alice.p12, lambda: "wrong")


def test_a_bundle_with_an_empty_password_is_open(tmp_path: Path, alice: Issued) -> None:
    command = "pkcs12 -export -in alice.crt -inkey alice.key -passout pass: -name me -out empty.p12"
    openssl(tmp_path, *command.split())

    def nobody() -> str:
        raise AssertionError

    loaded = load(tmp_path / "empty.p12", nobody)
    assert loaded.bundle
    assert (loaded.bundle.empty_password, loaded.bundle.name, len(loaded.keys)) == (True, "me", 1)


@pytest.mark.parametrize("traditional", [False, True])
def test_an_encrypted_key_is_unlocked_when_asked_for(tmp_path: Path, alice: Issued, traditional: bool) -> None:
    command = "rsa -traditional -aes128 -passout pass:secret" if traditional else "pkey -aes256 -passout pass:secret"
    if traditional:
        openssl(tmp_path, "genrsa", "-out", "plain.key", "2048")
    source = "plain.key" if traditional else "alice.key"
    openssl(tmp_path, *command.split(), "-in", source, "-out", "locked.key")
    loaded = load(tmp_path / "locked.key")
    (key,) = loaded.of(Key)
    assert (key.private, key.encrypted, key.old_encryption, loaded.keys) == (None, True, traditional, [])
    opened = contents.unlock(tmp_path / "locked.key", key, lambda: "secret")
    assert opened.private_numbers() == load(tmp_path / source).keys[0].private_numbers()
    with pytest.raises(PkiError, match=r"locked.key: the passphrase of the private key is wrong"):
        contents.unlock(tmp_path / "locked.key", key, lambda: "wrong")


def _flip(data: bytes) -> bytes:
    return data.replace(b"MII", b"AAA")


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: data[:-40], "the CERTIFICATE that begins in line 1 has no end"),
    "not base64": (
        lambda data: data.replace(b"MII", b"!!!"),
        "a certificate is damaged or of a kind that cannot be read",
    ),
    "not DER": (_flip, "a certificate is damaged or of a kind that cannot be read"),
    "key": (lambda _: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a private key is damaged"),
    "ssh": (
        lambda _: b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        "OpenSSH's format",
    ),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_parts(tmp_path: Path, authority: Authority, how: str) -> None:
    """One bad part does not hide the others."""
    change, message = DAMAGED[how]
    good = (authority.folder / "root.crt").read_bytes()
    (tmp_path / "file").write_bytes(change((authority.folder / "intermediate.crt").read_bytes()) + b"\n" + good)
    loaded = load(tmp_path / "file")
    assert loaded.certificates == [authority.root]
    (damaged,) = loaded.of(Damaged)
    assert message in damaged.what


def test_a_damaged_bundle_is_an_error_of_ours(tmp_path: Path, alice: Issued) -> None:
    assert alice.p12
    data = alice.p12.read_bytes()
    refused = 0
    for place in range(0, len(data), len(data) // 50):
        (tmp_path / "bad.p12").write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        try:
            load(tmp_path / "bad.p12", lambda: "secret")
        except PkiError as error:
            refused += 1
            assert "bad.p12" in str(error)
    assert refused > 40


def test_hostile_files_take_no_time(tmp_path: Path, alice: Issued) -> None:
    """Blocks without an end by the hundred thousand, and a PKCS#12 file that wants years of work for a password."""
    begin = b"-----BEGIN CERTIFICATE-----\n"
    (tmp_path / "many").write_bytes(begin * 200_000)
    with pytest.raises(PkiError, match=r"many holds more than 10,000 certificates, keys or lists"):
        load(tmp_path / "many")
    (tmp_path / "some").write_bytes(begin * 3)
    assert [part.what.split()[6] for part in load(tmp_path / "some").of(Damaged)] == ["1", "2", "3"]
    assert alice.p12
    data = alice.p12.read_bytes()
    rounds = b"\x02\x02\x08\x00"
    assert data.endswith(rounds)
    (tmp_path / "slow.p12").write_bytes(_with_rounds(data, b"\x02\x04\x7f\xff\xff\xff"))
    with pytest.raises(PkiError, match=r"to try a password on it takes 2,147,483,647 rounds; that is no file for use"):
        load(tmp_path / "slow.p12", lambda: "secret")


def _with_rounds(data: bytes, rounds: bytes) -> bytes:
    """A PKCS#12 file with other rounds of its MAC, which are its last value."""
    pfx = der.read(data)
    mac = pfx.child(2)
    inner = mac.content[:-4] + rounds
    content = pfx.content[: -len(mac.encoded)] + bytes([0x30, len(inner)]) + inner
    return b"\x30\x82" + len(content).to_bytes(2) + content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    which=st.integers(0, 4), place=st.floats(0, 1, exclude_max=True), cut=st.integers(0, 3), put=st.binary(max_size=3)
)
def test_nothing_that_is_damaged_is_more_than_an_error(
    tmp_path: Path, alice: Issued, authority: Authority, which: int, place: float, cut: int, put: bytes
) -> None:
    """Bytes cut out of or put into files of every kind: they are read, described, examined and verified, or refused."""
    assert alice.p12
    crl = authority.folder / "ca.crl"
    if not crl.exists():
        authority.crl()
        openssl(
            tmp_path,
            *["req", "-new", "-key", "alice.key", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:x"],
            "-out",
            "csr",
        )
    sources = [alice.certificate, crl, tmp_path / "csr", authority.folder / "root.crt"]
    leaf, trusted = load(alice.certificate).certificates, load(authority.folder / "root.crt").certificates
    part: Any = alice.p12 if which == 4 else load(sources[which]).parts[0]
    data = part.read_bytes() if which == 4 else part.public_bytes(Encoding.DER)
    at = int(place * len(data))
    (tmp_path / "bad").write_bytes(data[:at] + put + data[at + cut :])
    try:
        loaded = load(tmp_path / "bad", lambda: "secret")
        shown = inspect.describe_file(loaded, now())
        assert inspect.file_in_words(shown)
        for one in shown["parts"]:
            assert list(inspect.in_words(one))
        doctor.examine(loaded, [loaded], now())
        for certificate in loaded.certificates:
            verify.verify(Question(certificate, trusted, now(), leaf[1:], purpose="client"))
        if lists := loaded.of(x509.CertificateRevocationList):
            verify.verify(Question(leaf[0], trusted, now(), leaf[1:], lists))
    except PkiError:
        return


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "binary").write_bytes(b"\x30\x82" * 1000)
    monkeypatch.setattr(contents, "MAX_SIZE", 1 << 20)
    for name, message in (
        ("nothing", "cannot read .*nothing: no such file or directory"),
        ("", "cannot read .*: is a directory"),
        ("empty", "empty is empty"),
        ("text", "text holds no certificate, request, revocation list or key: neither PEM nor DER"),
        ("binary", "binary holds no certificate"),
        ("/dev/zero", "/dev/zero is larger than 1 MB: no file of certificates"),
    ):
        with pytest.raises(PkiError, match=message):
            load(tmp_path / name)


def test_standard_input(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(buffer=io.BytesIO((authority.folder / "root.crt").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert load(contents.STDIN).certificates == [authority.root]
    with pytest.raises(PkiError, match="the standard input is empty"):
        load(contents.STDIN)
