"""What is in the certificates: every extension, as cryptography reads it back and openssl judges it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from nlbcore.pki import index, issue, keys
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request, Term
from nlbcore.pki.names import Subject
from nlbcore.pki.words import KEY_TYPES
from tests.support.programs import run

PURPOSE = {"server": "sslserver", "client": "sslclient"}
FIVE_MINUTES = dt.timedelta(minutes=5)


def verify(authority: Authority, leaf: Path, purpose: str, *, check: bool = True) -> bool:
    """Whether openssl, at its strictest, takes the leaf for that purpose, given its own file for the chain."""
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(authority.folder / "root.crt")]
    return run(*command, "-untrusted", str(leaf), str(leaf), check=check).returncode == 0


def of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize("kind", [kind for kind in KEY_TYPES if kind != "rsa-4096"])
def test_openssl_verifies_every_kind(tmp_path: Path, kind: str) -> None:
    authority = Authority.create(tmp_path / "ca", key_type=kind, subject=Subject("DE", organization="Ä GmbH"))
    for profile, other in (("server", "client"), ("client", "server")):
        issued = authority.issue(Request(f"a-{profile}", profile, key_type=kind), out=tmp_path)
        assert verify(authority, issued.certificate, PURPOSE[profile])
        assert not verify(authority, issued.certificate, PURPOSE[other], check=False)
        assert not verify(authority, issued.certificate, "crlsign", check=False)


def test_leaf(tmp_path: Path, authority: Authority) -> None:
    request = Request("www", "server", "www.example.com", dns=["*.example.com"], ip=["::1"], uri=["u:x"], email=["a@b"])
    leaf = of(authority.issue(request, out=tmp_path).certificate)
    intermediate = authority.intermediate
    extensions = {one.oid: one for one in leaf.extensions}
    assert extensions[ExtensionOID.BASIC_CONSTRAINTS].value == x509.BasicConstraints(ca=False, path_length=None)
    assert {oid for oid, one in extensions.items() if one.critical} == {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
    }
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [*purposes] == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["www.example.com", "*.example.com", "::1", "u:x", "a@b"]
    own = intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    above = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert above.key_identifier == own.digest
    assert ExtensionOID.SUBJECT_KEY_IDENTIFIER in extensions
    assert leaf.version is x509.Version.v3
    assert leaf.issuer == intermediate.subject
    assert leaf.subject.rfc4514_string() == "CN=www.example.com"


def test_key_usage(tmp_path: Path, authority: Authority) -> None:
    """Only an RSA key of a server is ever used to encrypt another."""
    for profile in ("server", "client"):
        for kind in ("rsa-2048", "ec-p256"):
            request = Request(f"{profile}-{kind}", profile, key_type=kind)
            leaf = of(authority.issue(request, out=tmp_path).certificate)
            usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
            assert usage.digital_signature
            assert not usage.key_cert_sign
            assert usage.key_encipherment is ((profile, kind) == ("server", "rsa-2048"))


def test_authorities(authority: Authority) -> None:
    root, intermediate = authority.root, authority.intermediate
    lengths = [one.extensions.get_extension_for_class(x509.BasicConstraints) for one in (root, intermediate)]
    assert [(one.critical, one.value.ca, one.value.path_length) for one in lengths] == [
        (True, True, None),
        (True, True, 0),
    ]
    for one in (root, intermediate):
        usage = one.extensions.get_extension_for_class(x509.KeyUsage)
        assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
        assert not usage.value.digital_signature
    assert root.subject.rfc4514_string() == "CN=Example"
    assert intermediate.subject.rfc4514_string() == "CN=Example Intermediate"
    root.verify_directly_issued_by(root)
    intermediate.verify_directly_issued_by(root)


def test_nothing_under_the_intermediate_is_an_authority(tmp_path: Path, authority: Authority) -> None:
    """Path length 0: an authority that somebody makes with the intermediate's key is accepted by nobody."""
    signer = issue.Signer(
        authority.intermediate, keys.load(authority.folder / "intermediate.key", authority.intermediate)
    )
    key = keys.new("ec-p256")
    validity = issue.window(index.now(), 5, authority.intermediate)
    sub = issue.intermediate(Subject().name("Sub"), key.public_key(), signer, validity)
    wanted = Request("x", "client").checked()
    leaf = issue.leaf(wanted, key.public_key(), issue.Signer(sub, key), issue.window(index.now(), 5, sub))
    path = tmp_path / "x.crt"
    path.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in (leaf, sub, authority.intermediate)))
    command = ("openssl", "verify", "-CAfile", str(authority.chain), "-untrusted", str(path), str(path))
    done = run(*command, check=False)
    assert b"path length constraint exceeded" in done.stdout + done.stderr


def test_serials_are_random_and_positive(authority: Authority, tmp_path: Path) -> None:
    serials = [authority.issue(Request(f"c{number}", "client"), out=tmp_path).entry.serial for number in range(10)]
    assert len(set(serials)) == 10
    assert all(0 < one < 1 << 160 for one in serials)
    assert max(serials).bit_length() > 150


def test_dates(authority: Authority, tmp_path: Path) -> None:
    now = index.now()
    for profile, days in (("server", 90), ("client", 30)):
        issued = authority.issue(Request(profile, profile), out=tmp_path)
        assert not issued.clamped
        begin, end = issued.entry.not_before, issued.entry.not_after
        assert dt.timedelta() <= begin - (now - FIVE_MINUTES) <= dt.timedelta(seconds=30)
        assert end - begin == dt.timedelta(days=days) + FIVE_MINUTES
    assert authority.root.not_valid_after_utc - authority.root.not_valid_before_utc == (
        dt.timedelta(days=3650) + FIVE_MINUTES
    )


def test_no_leaf_outlives_its_issuer(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=10, intermediate_days=100)
    assert authority.intermediate.not_valid_after_utc == authority.root.not_valid_after_utc
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    assert issued.clamped
    assert issued.entry.not_after == authority.intermediate.not_valid_after_utc
    assert issued.as_dict()["clamped"] is True


def test_window() -> None:
    now = index.now()
    name = Subject().name("x")
    key = keys.new("ec-p256")
    parent = issue.root(name, key, issue.window(now, 10, None))
    for days in (0, -1, 36501):
        with pytest.raises(BadValue, match=r"1 to 36500 days"):
            issue.window(now, days, None)
        with pytest.raises(BadValue, match=r"1 to 36500 days"):
            issue.window(now, 5, None, Term(days))
    late = parent.not_valid_after_utc
    with pytest.raises(PkiError, match=r"CN=x has expired on .* UTC: it can sign nothing any more"):
        issue.window(late, 5, parent)
    with pytest.raises(PkiError, match=r"CN=x is not valid before .*: is this machine's clock right\?"):
        issue.window(now - dt.timedelta(days=1), 5, parent)
    early = parent.not_valid_before_utc
    assert issue.window(early, 5, parent).begin == early
    assert issue.window(now, 36500, None).end.year > 2100


def test_dates_that_are_asked_for() -> None:
    now = index.now()
    day = dt.timedelta(days=1)
    key = keys.new("ec-p256")
    parent = issue.root(Subject().name("x"), key, issue.window(now, 10, None))
    first, last = parent.not_valid_before_utc, parent.not_valid_after_utc

    def window(
        days: int | None = None, begin: dt.datetime | None = None, end: dt.datetime | None = None
    ) -> issue.Window:
        return issue.window(now, 5, parent, Term(days, begin, end))

    assert window() == issue.Window(first, now + 5 * day, clamped=False)
    assert window(3) == issue.Window(first, now + 3 * day, clamped=False)
    assert window(3, now + day) == issue.Window(now + day, now + 4 * day, clamped=False)
    assert window(None, now + day) == issue.Window(now + day, now + 6 * day, clamped=False)
    assert window(None, now + day, now + 2 * day) == issue.Window(now + day, now + 2 * day, clamped=False)
    assert window(None, None, now + day) == issue.Window(first, now + day, clamped=False)
    assert window(None, None, last + day) == issue.Window(first, last, clamped=True)
    assert window(20, now + day) == issue.Window(now + day, last, clamped=True)
    assert window(None, now - day) == issue.Window(first, now + 4 * day, clamped=False, late=True)
    for asked, field, reason in [
        ((3, None, now + day), "days", "how long, or until when"),
        ((None, now + day, now + day), "not_after", "it would end before it begins"),
        ((None, None, now - day), "not_after", "it would end before it begins"),
        ((None, last, None), "not_before", "its authority ends before"),
        ((None, now - 9 * day, now - 8 * day), "not_after", "its authority begins after"),
        ((None, None, now + 36501 * day), "not_after", "1 to 36500 days are possible"),
    ]:
        with pytest.raises(BadValue) as caught:
            window(*asked)
        assert caught.value.field == field
        assert caught.value.reason.startswith(reason)


def test_every_name_once() -> None:
    request = Request("x", "server", "a.example", dns=["b.example", "A.example"], ip=["::1", "0::1"])
    wanted = request.checked()
    assert [str(one.value) for one in wanted.sans] == ["a.example", "b.example", "::1"]
    assert list(wanted.implied) == []
    assert list(Request("x", "client").checked().implied) == [x509.DNSName("x")]


def test_requests_that_make_no_certificate() -> None:
    for request, message in [
        (Request("a", "sevrer"), 'profile "sevrer": one of server, client is meant'),
        (Request("a b", "server"), 'cn "a b" is not a host name, and clients ask for one'),
        (Request("a/b", "client"), 'name "a/b": it names the files'),
        (Request("a", "client", dns=["a b"]), 'dns "a b" is not a host name'),
        (Request("a", "client", cn="c" * 65), f'cn "{"c" * 65}" has 65 characters'),
    ]:
        with pytest.raises(BadValue) as caught:
            request.checked()
        assert str(caught.value).startswith(message)


def test_a_person_needs_no_alternative_name(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client", "Alice Example"), out=tmp_path)
    assert issued.entry.sans == ()
    assert verify(authority, issued.certificate, "sslclient")
