"""Bundles: the leaf found and its chain put in order whatever comes in, and nothing packed that must not be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from nlbcore.pki import bundle
from nlbcore.pki.authority import Authority
from nlbcore.pki.bundle import Line
from nlbcore.pki.contents import load
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request
from nlbcore.pki.outcome import Issued
from tests.support.programs import run


@pytest.fixture
def www(tmp_path: Path, authority: Authority) -> Issued:
    return authority.issue(Request("www.example.com", "server"), out=tmp_path)


def leaf_of(issued: Issued) -> x509.Certificate:
    return load(issued.certificate).certificates[0]


def nobody(_path: Path) -> Callable[[], str]:
    return lambda: pytest.fail("no password is needed")


def test_any_order_makes_the_same_line(tmp_path: Path, authority: Authority, www: Issued) -> None:
    stranger = Authority.create(tmp_path / "other", name="Other").root
    leaf = leaf_of(www)
    every = [leaf, authority.intermediate, authority.root, stranger, authority.intermediate]
    for order in itertools.permutations(every):
        made = bundle.line(order, None, [])
        assert (made.leaf, made.above) == (leaf, (authority.intermediate, authority.root))
        assert (made.intermediates, made.missing) == ((authority.intermediate,), "")
    assert bundle.line([leaf], None, []).missing == "CN=Example Intermediate"
    assert bundle.line([leaf, authority.intermediate], None, []).missing == "CN=Example"
    assert bundle.line([authority.root], None, []) == Line(authority.root, ())


def test_forms(authority: Authority, www: Issued, tmp_path: Path) -> None:
    """What openssl finds in each."""
    files = [www.certificate, www.private_key, authority.folder / "root.crt"]
    certificates, key = bundle.collect(files, nobody)
    made = bundle.line(certificates, key, files)
    leaf, above = leaf_of(www), authority.intermediate
    for form, expected, keys in (
        ("fullchain", [leaf, above], 0),
        ("chain", [above], 0),
        ("leaf", [leaf], 0),
        ("haproxy", [leaf, above], 1),
    ):
        (tmp_path / form).write_bytes(bundle.pem(made, form, key))
        loaded = load(tmp_path / form)
        assert (loaded.certificates, len(loaded.keys)) == (expected, keys)
    run("openssl", "pkey", "-in", str(tmp_path / "haproxy"), "-noout", "-check")
    with pytest.raises(PkiError, match="the form haproxy holds the private key too: give its file"):
        bundle.pem(made, "haproxy")
    with pytest.raises(BadValue, match="one of fullchain, chain, leaf, haproxy is meant"):
        bundle.pem(made, "apache")
    with pytest.raises(
        PkiError, match="there is no intermediate: CN=Example Intermediate has issued it; give its file too"
    ):
        bundle.pem(bundle.line([leaf], None, []), "chain")


def test_the_key_tells_which_leaf_is_meant(tmp_path: Path, authority: Authority, www: Issued) -> None:
    other = authority.issue(Request("other.example.com", "server"), out=tmp_path)
    files = [other.certificate, www.certificate]
    certificates, _ = bundle.collect(files, nobody)
    with pytest.raises(
        PkiError, match=r"certificates in .*www.example.com.crt \(CN=other.example.com, CN=www.example.com\)"
    ):
        bundle.line(certificates, None, files)
    certificates, key = bundle.collect([*files, www.private_key], nobody)
    assert bundle.line(certificates, key, files).leaf == leaf_of(www)
    with pytest.raises(PkiError, match=r"belongs to none of the certificates in .*other.example.com.crt$"):
        bundle.line([leaf_of(other)], key, [other.certificate])
    with pytest.raises(PkiError, match=r"there are 2 different private keys in .*, .*: give one"):
        bundle.collect([www.private_key, other.private_key], nobody)


def test_what_is_packed_for_nobody(authority: Authority, tmp_path: Path) -> None:
    files = [authority.folder / "intermediate.crt", authority.folder / "intermediate.key"]
    certificates, key = bundle.collect(files, nobody)
    made = bundle.line(certificates, key, files)
    with pytest.raises(PkiError, match="CN=Example Intermediate is an authority, and an authority's key is packed for"):
        bundle.pem(made, "haproxy", key)
    with pytest.raises(
        PkiError, match=r"certificates in .*intermediate.key are all of authorities: there is no leaf among"
    ):
        bundle.line([authority.intermediate, authority.root], None, files)
    with pytest.raises(PkiError, match=r"there is no certificate in .*root.key: give its file too"):
        bundle.line([], None, [authority.folder / "root.key"])
    (tmp_path / "bad").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(PkiError, match="bad: a certificate is damaged"):
        bundle.collect([tmp_path / "bad"], nobody)
    run("openssl", "genpkey", "-algorithm", "X25519", "-out", str(tmp_path / "x.key"))
    with pytest.raises(PkiError, match="its private key is of a kind that is no use for TLS"):
        bundle.collect([tmp_path / "x.key"], nobody)


def test_an_encrypted_key_and_a_bundle_are_opened(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path, p12_password="secret")
    assert issued.p12
    run(
        "openssl",
        "pkey",
        "-in",
        str(issued.private_key),
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        str(tmp_path / "l"),
    )
    for files in ([issued.certificate, tmp_path / "l"], [issued.p12]):
        certificates, key = bundle.collect(files, lambda path: lambda: "secret")
        assert bundle.line(certificates, key, files).intermediates == (authority.intermediate,)


def test_a_key_is_not_lost(tmp_path: Path, authority: Authority) -> None:
    """A file with a private key, its own or in a bundle, gives way to one with a key only."""
    issued = authority.issue(Request("alice", "client"), out=tmp_path, p12_password="secret")
    assert issued.p12
    for path in (issued.private_key, issued.p12):
        for form in ("fullchain", "chain", "leaf"):
            with pytest.raises(PkiError, match=rf"{path} holds a private key, which would be lost: choose another"):
                bundle.refuse_loss(path, form)
        bundle.refuse_loss(path, "haproxy")
    bundle.refuse_loss(issued.certificate, "leaf")
    bundle.refuse_loss(tmp_path / "new", "leaf")
