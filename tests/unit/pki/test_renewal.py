"""Renewing: the same names, purpose and key with a new serial and new dates, or a new key; and what a timer leaves alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from nlbcore.pki import index, keys, renewal
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import Entry
from nlbcore.pki.issue import Request, Term
from nlbcore.pki.names import Subject
from tests.support.programs import run

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def days(entry: Entry) -> int:
    return (entry.not_after - entry.not_before).days


def test_the_same_key(tmp_path: Path, authority: Authority) -> None:
    request = Request(
        "www", "server", "www.example.com", Subject(organization="Ä"), ["*.example.com"], ["::1"], ["u:x"], ["a@b"]
    )
    issued = authority.issue(replace(request, term=Term(days=3)), out=tmp_path)
    old, key = of(issued.certificate), (tmp_path / "www.key").read_bytes()
    renewed = authority.renew("www")
    new = of(issued.certificate)
    assert (renewed.certificate, renewed.new_key, renewed.renewed) == (issued.certificate, False, issued.entry)
    assert (tmp_path / "www.key").read_bytes() == key
    assert new.serial_number != old.serial_number
    assert new.public_key() == old.public_key()
    assert (new.subject, days(renewed.entry)) == (old.subject, 3)
    assert [one.value for one in new.extensions] == [one.value for one in old.extensions]
    trust = ("-CAfile", str(authority.folder / "root.crt"), "-untrusted", str(issued.certificate))
    run("openssl", "verify", "-x509_strict", "-purpose", "sslserver", *trust, str(issued.certificate))
    assert [entry.name for entry in authority.entries()] == ["intermediate", "www", "www"]
    assert authority.entries()[1].revoked_at is None  # old and new overlap
    assert authority.renew("www", term=Term(days=7)).entry.days == 7
    assert days(authority.renew("www").entry) == 7
    assert not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("kind", ["ec-p384", "ed25519", "rsa-2048"])
def test_a_new_key(tmp_path: Path, authority: Authority, kind: str) -> None:
    issued = authority.issue(Request("alice", "client", key_type=kind), out=tmp_path)
    old = of(issued.certificate)
    renewed = authority.renew("alice", rekey=True)
    new = of(issued.certificate)
    assert (renewed.private_key, renewed.new_key) == (tmp_path / "alice.key", True)
    assert type(new.public_key()) is type(old.public_key())
    assert new.public_key() != old.public_key()
    shown = run("openssl", "pkey", "-in", str(renewed.private_key), "-pubout").stdout
    assert shown == run("openssl", "x509", "-in", str(renewed.certificate), "-noout", "-pubkey").stdout
    assert days(renewed.entry) == 30
    authority.renew("alice", rekey=True, key_type="ec-p256")
    assert of(issued.certificate).public_key().curve.name == "secp256r1"  # type: ignore[union-attr]


def test_by_serial_and_by_file(tmp_path: Path, authority: Authority) -> None:
    """Two of one name in two places are two certificates: the name alone does not say which."""
    one = authority.issue(Request("alice", "client"), out=tmp_path / "one")
    two = authority.issue(Request("alice", "client"), out=tmp_path / "two")
    with pytest.raises(PkiError) as caught:
        authority.renew("alice")
    assert str(caught.value) == (
        "alice means several certificates: name one by its serial number or its file:"
        f" {one.entry.serial_hex} (client, {one.certificate}); {two.entry.serial_hex} (client, {two.certificate})"
    )
    assert authority.renew(one.entry.serial_hex).certificate == one.certificate
    moved = two.certificate.rename(tmp_path / "moved.crt")
    with pytest.raises(PkiError, match=r"cannot read .*two/alice.crt: no such file .* name the file instead of alice"):
        authority.renew(two.entry.serial_hex)
    renewed = authority.renew(str(moved))
    assert (renewed.certificate, renewed.entry.file) == (moved, str(moved))


def test_elsewhere(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    before = issued.certificate.read_bytes()
    renewed = authority.renew("alice", rekey=True, out=tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["alice.crt", "alice.key"]
    assert issued.certificate.read_bytes() == before
    with pytest.raises(PkiError, match=r"new/alice.crt is there already; --force overwrites it"):
        authority.renew(str(renewed.certificate), out=tmp_path / "new")
    authority.renew(str(renewed.certificate), out=tmp_path / "new", force=True)
    # The one in the old place has a successor: it is neither meant by the name nor due.
    assert authority.renew("alice").certificate == tmp_path / "new/alice.crt"
    assert [one.file for one in authority.due(31 * DAY)] == [str(tmp_path / "new/alice.crt")]
    assert authority.renew(issued.entry.serial_hex).certificate == issued.certificate


def test_a_key_that_somebody_has_put_under_a_passphrase(tmp_path: Path, authority: Authority) -> None:
    """It is not needed for a certificate of the same key, and not replaced unseen by another."""
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    issued.private_key.write_bytes(keys.pem(keys.read_private(issued.private_key), b"x"))
    before = issued.private_key.read_bytes()
    authority.renew("alice")
    with pytest.raises(PkiError, match=r"alice.key is kept under a passphrase, and none is given"):
        authority.renew("alice", rekey=True)
    assert issued.private_key.read_bytes() == before


def test_a_bundle_beside_it_is_told(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path, p12_password="x")
    renewed = authority.renew("alice")
    assert renewed.stale_p12 == issued.p12
    assert renewed.as_dict()["stale_p12"] == str(issued.p12)
    assert renewed.as_dict()["renewed"] == issued.entry.serial_hex


def test_refused(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    authority.issue(Request("bob", "client"), out=tmp_path)
    before = (authority.folder / "index").read_bytes()
    good = issued.certificate.read_bytes()

    def refused(message: str, target: str = "alice", **options: bool) -> None:
        with pytest.raises(PkiError, match=message):
            authority.renew(target, **options)  # type: ignore[arg-type]

    refused(r'"alise" is neither a name nor a serial number .*did you mean "alice"', "alise")
    refused(r"intermediate is the authority's own certificate: `nlb ca renew` renews it", "intermediate")
    issued.certificate.write_bytes((tmp_path / "bob.crt").read_bytes())
    refused(r"alice.crt is not the certificate .*, the newest of alice .*: it has been replaced by another")
    issued.certificate.write_text("garbage")
    refused(r"alice.crt is not a PEM certificate, or a damaged one")
    issued.certificate.write_bytes(good)
    (tmp_path / "alice.key").write_bytes((tmp_path / "bob.key").read_bytes())
    refused(r"alice.key is not the key of .*alice.crt: renewing would not make a pair of them")
    (tmp_path / "alice.key").unlink()
    refused(r"alice.key is not there: who has the key makes a request for a new one", rekey=True)
    assert (authority.folder / "index").read_bytes() == before
    assert issued.certificate.read_bytes() == good
    authority.renew("alice")  # the key need not be here
    with pytest.raises(BadValue, match=r'days "0"'):
        authority.renew("alice", term=Term(days=0))
    authority.revoke("alice")
    refused(r"alice has been revoked: a new certificate is issued, not renewed")


def test_one_whose_place_nobody_knows(authority: Authority, tmp_path: Path) -> None:
    """An index of before this was noted."""
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    path = authority.folder / "index"
    path.write_text(path.read_text().replace(f'"file": "{issued.certificate}"', '"file": ""'))
    with pytest.raises(PkiError, match=r"the index does not say where the certificate alice is: name its file instead"):
        authority.renew("alice")
    assert authority.renew(str(issued.certificate)).certificate == issued.certificate


def entry(name: str, serial: int, end: dt.timedelta, **fields: object) -> Entry:
    made = Entry(serial, name, "client", "intermediate", "CN=x", (), NOW - DAY, NOW + end, "", file=f"/{name}.crt")
    return replace(made, **fields)  # type: ignore[arg-type]


def test_what_is_due() -> None:
    entries = [
        entry("ca", 1, 3 * DAY, profile="ca"),
        entry("soon", 2, 3 * DAY),
        entry("later", 3, 11 * DAY),
        entry("followed", 4, 3 * DAY),
        entry("followed", 5, 30 * DAY),
        entry("ended", 6, -DAY),
        entry("revoked", 7, 3 * DAY, revoked_at=NOW),
        entry("issuer-revoked", 14, 3 * DAY, issuer_revoked=True),
        entry("newest-revoked", 8, 3 * DAY),
        entry("newest-revoked", 9, 30 * DAY, revoked_at=NOW),
        entry("web", 10, 10 * DAY, profile="server"),
        entry("soon", 11, 2 * DAY, file="/elsewhere.crt"),
        entry("moved", 12, 2 * DAY),
        entry("moved", 13, 30 * DAY, file="/new.crt", renews=12),
    ]
    assert [one.serial for one in renewal.due(entries, NOW, 10 * DAY, ("server", "client"))] == [2, 10, 11]
    assert [one.serial for one in renewal.due(entries, NOW, 10 * DAY, ("server",))] == [10]
    assert [one.serial for one in renewal.due(entries, NOW, 10 * DAY, ("ca", "server"))] == [1, 10]
    assert renewal.due(entries, NOW, dt.timedelta(), ("client",)) == []


def test_due_and_done(tmp_path: Path, authority: Authority) -> None:
    authority.issue(Request("alice", "client", term=Term(days=5)), out=tmp_path)
    authority.issue(Request("bob", "client", term=Term(days=20)), out=tmp_path)
    assert [one.name for one in authority.due(10 * DAY)] == ["alice"]
    authority.renew("alice", term=Term(days=20))
    assert authority.due(10 * DAY) == []
    assert index.now() < authority.entries()[1].not_after


def test_what_ends_with_its_authority(tmp_path: Path) -> None:
    """Renewed it would end no later, however often: a timer is told so, who asks for this one gets it."""
    authority = Authority.create(tmp_path / "ca", intermediate_days=5)
    authority.issue(Request("alice", "client"), out=tmp_path)
    message = r"^its authority ends with it, on .*, and so would a new one: `nlb ca renew .*/ca` comes first"
    with pytest.raises(PkiError, match=message):
        authority.renew("alice", later=True)
    assert authority.renew("alice", rekey=True).clamped
    authority.renew_authority(intermediate_days=50)
    assert not authority.renew("alice", later=True).clamped


def test_it_is_revoked_meanwhile(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and writing somebody revokes it: the index decides, under its lock."""
    issued = authority.issue(Request("alice", "client"), out=tmp_path)
    good = issued.certificate.read_bytes()
    load = renewal.load

    def slow(entry: Entry, path: Path) -> x509.Certificate:
        authority.revoke("alice")
        return load(entry, path)

    monkeypatch.setattr(renewal, "load", slow)
    with pytest.raises(PkiError, match=r"alice has been revoked meanwhile: it is not renewed"):
        authority.renew("alice")
    assert issued.certificate.read_bytes() == good
