"""Which certificate is meant, and lists that openssl accepts: one for each authority, numbers going up, dates in bounds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import index, keys, revoke
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import Entry
from nlbcore.pki.issue import Request, Signer, Window, window
from tests.support.programs import run

END = b"-----END X509 CRL-----\n"


def lists(path: Path) -> list[x509.CertificateRevocationList]:
    return [x509.load_pem_x509_crl(part + END) for part in path.read_bytes().split(END) if part]


def openssl_verify(authority: Authority, leaf: Path) -> str:
    """openssl's verdict with the lists of both authorities asked."""
    command = ["openssl", "verify", "-x509_strict", "-crl_check_all", "-purpose", "sslclient", "-CAfile"]
    crl = authority.folder / "ca.crl"
    command += [str(authority.chain), *(["-CRLfile", str(crl)] if crl.exists() else []), str(leaf)]
    done = run(*command, check=False)
    return (done.stdout + done.stderr).decode()


def test_revoked_is_refused_and_the_rest_is_not(tmp_path: Path, authority: Authority) -> None:
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    mallory = authority.issue(Request("mallory", "client"), out=tmp_path)
    assert "unable to get certificate CRL" in openssl_verify(authority, alice.certificate)
    authority.crl()
    assert openssl_verify(authority, mallory.certificate) == f"{mallory.certificate}: OK\n"
    revoked = authority.revoke("mallory", "keyCompromise")
    assert [entry.serial for entry in revoked.entries] == [mallory.entry.serial]
    assert "certificate revoked" in openssl_verify(authority, mallory.certificate)
    assert openssl_verify(authority, alice.certificate) == f"{alice.certificate}: OK\n"


def test_a_revoked_intermediate(tmp_path: Path, authority: Authority) -> None:
    """It is on the root's list, everything under it is refused, and nothing is issued any more."""
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    authority.revoke("intermediate", "cACompromise")
    by_intermediate, by_root = lists(authority.folder / "ca.crl")
    assert [one.serial_number for one in by_root] == [authority.intermediate.serial_number]
    assert [*by_intermediate] == []
    assert "certificate revoked" in openssl_verify(authority, alice.certificate)
    with pytest.raises(PkiError, match=r"has been revoked: nothing it signs is accepted"):
        authority.issue(Request("bob", "client"), out=tmp_path)
    assert not (tmp_path / "bob.key").exists()


def test_the_lists(tmp_path: Path, authority: Authority) -> None:
    authority.issue(Request("alice", "client"), out=tmp_path)
    authority.issue(Request("bob", "client"), out=tmp_path)
    first = authority.crl()
    authority.revoke("alice", "superseded")
    authority.revoke("bob")
    crl = authority.crl(20)
    assert (first.number, first.revoked, crl.number, crl.revoked) == (1, 0, 4, 2)
    assert crl.path.stat().st_mode & 0o777 == 0o600
    made = lists(crl.path)
    assert [one.issuer for one in made] == [authority.intermediate.subject, authority.root.subject]
    for one, signer in zip(made, (authority.intermediate, authority.root), strict=True):
        assert one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4
        own = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
        assert one.next_update_utc == crl.next_update
        assert one.next_update_utc - one.last_update_utc == dt.timedelta(days=20, minutes=5)
        path = tmp_path / "one.crl"
        path.write_bytes(one.public_bytes(Encoding.PEM))
        done = run("openssl", "crl", "-in", str(path), "-CAfile", str(authority.chain), "-noout")
        assert b"verify OK" in done.stderr
    reasons = {one.serial_number: [*one.extensions] for one in made[0]}
    bob, alice = (index_entry(authority, name) for name in ("bob", "alice"))
    assert reasons[bob.serial] == []  # "unspecified" is not written (RFC 5280, 5.3.1)
    assert [one.value for one in reasons[alice.serial]] == [x509.CRLReason(x509.ReasonFlags.superseded)]


def test_without_the_root_key_its_list_is_kept(tmp_path: Path, authority: Authority) -> None:
    """A client is revoked for verifiers that check the whole chain, with the root's key far away."""
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    bob = authority.issue(Request("bob", "client"), out=tmp_path)
    assert not authority.crl(20).warning
    before = lists(authority.folder / "ca.crl")
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    revoked = authority.revoke("bob")
    warning = revoked.crl.warning
    assert warning.startswith(f"cannot read {authority.folder}/root.key: no such file or directory: the root's list")
    assert f"stays as it is, good until {index.readable(end(before[1]))} (" in warning
    assert revoked.crl.complete
    after = lists(authority.folder / "ca.crl")
    assert after[1] == before[1]
    assert (revoked.crl.number, revoke.number_of(after[0])) == (2, 2)
    assert revoked.crl.next_update == end(after[0]) < end(after[1])
    assert "certificate revoked" in openssl_verify(authority, bob.certificate)
    assert openssl_verify(authority, alice.certificate) == f"{alice.certificate}: OK\n"
    assert authority.crl().warning == warning
    (tmp_path / "root.key").rename(authority.folder / "root.key")
    assert not authority.crl().warning
    assert [revoke.number_of(one) for one in lists(authority.folder / "ca.crl")] == [4, 4]


def end(one: x509.CertificateRevocationList) -> dt.datetime:
    assert one.next_update_utc is not None
    return one.next_update_utc


@pytest.mark.parametrize("state", ["missing", "another's", "overdue", "lacking"])
def test_without_the_root_key_and_a_good_list_of_it(tmp_path: Path, authority: Authority, state: str) -> None:
    """A client is still revoked, as far as it can be; `crl` does the same and fails, for the root's key is needed."""
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    path = authority.folder / "ca.crl"
    signer = Signer(authority.root, keys.load(authority.folder / "root.key", authority.root))
    now = index.now()
    kept, remark = 1, "there is no list of the root;"
    if state == "missing":
        kept = 0
    elif state == "another's":
        kept = 0
        other = Authority.create(tmp_path / "other", name="Example")  # of the same name, with another key
        other.crl()
        path.write_bytes((tmp_path / "other/ca.crl").read_bytes())
    elif state == "overdue":
        past = Window(now - dt.timedelta(days=2), now - dt.timedelta(days=1), clamped=False)
        path.write_bytes(revoke.crl(signer, [], 5, past))
        remark = f"the root's list is overdue since {index.readable(past.end)};"
    else:
        authority.crl()
        old = path.read_bytes()
        authority.revoke("intermediate")
        path.write_bytes(old)  # as after a crash between the index and the list
        remark = "the root's list does not have the revoked intermediate;"
    (authority.folder / "root.key").unlink()
    crl = authority.revoke("alice").crl
    assert not crl.complete
    assert f"no such file or directory: {remark} the intermediate's has been written" in crl.warning
    assert crl.warning.endswith(f"put root.key back and run `nlb ca crl {authority.folder}`")
    made = lists(path)
    assert len(made) == 1 + kept
    assert [one.serial_number for one in made[0]] == [alice.entry.serial]
    assert crl.next_update == end(made[0])
    with pytest.raises(PkiError, match=remark):
        authority.crl()
    assert revoke.number_of(lists(path)[0]) == crl.number + 1


def test_how_long_a_kept_list_is_good(authority: Authority) -> None:
    authority.crl(5)
    there = revoke.lists(authority.folder / "ca.crl")
    last = end(there[1])
    for left, text in [
        (dt.timedelta(days=3), "(3 days)"),
        (dt.timedelta(days=1), "(one day)"),
        (dt.timedelta(hours=2), "(less than a day)"),
    ]:
        part = revoke.kept(there, authority.root, [], last - left)
        assert part.current
        assert part.remark.endswith(text)
    assert not revoke.kept(there, authority.root, [], last).current


def test_lists_that_cannot_be_read(tmp_path: Path, authority: Authority) -> None:
    authority.crl()
    path = authority.folder / "ca.crl"
    broken = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    path.write_bytes(b"\xff" + broken + path.read_bytes())
    assert [one.issuer for one in revoke.lists(path)] == [authority.intermediate.subject, authority.root.subject]
    assert revoke.lists(tmp_path / "none") == []


def index_entry(authority: Authority, name: str) -> Entry:
    return next(entry for entry in authority.entries() if entry.name == name)


def test_no_list_claims_dates_past_its_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=20, intermediate_days=10)
    authority.crl(365)
    by_intermediate, by_root = lists(authority.folder / "ca.crl")
    assert by_intermediate.next_update_utc == authority.intermediate.not_valid_after_utc
    assert by_root.next_update_utc == authority.root.not_valid_after_utc
    assert by_root.last_update_utc >= authority.root.not_valid_before_utc


def test_what_is_meant(tmp_path: Path, authority: Authority) -> None:
    one = authority.issue(Request("alice", "client"), out=tmp_path)
    two = authority.issue(Request("alice", "client"), out=tmp_path / "new")
    bob = authority.issue(Request("bob", "client"), out=tmp_path)
    number = two.entry.serial_hex
    spellings = (number, number.lower(), f"0x{number}", number.lstrip("0"), ":".join(_pairs(number)))
    with index.opened(authority.folder / "index", change=False) as journal:
        for target in (*spellings, str(two.certificate)):
            assert revoke.find(journal, target) == [two.entry], target
        assert revoke.find(journal, "alice") == [one.entry, two.entry]
        for target, message in [
            ("alise", 'is no name and no serial number in .*, and no file .did you mean "alice"'),
            ("deadbeef", "is no name and no serial number"),
            (str(tmp_path), "is no name and no serial number"),
            (str(bob.private_key), "is no PEM certificate"),
        ]:
            with pytest.raises(PkiError, match=message):
                revoke.find(journal, target)
    assert authority.revoke(number).entries[0].serial == two.entry.serial
    assert [entry.serial for entry in authority.revoke("alice").entries] == [one.entry.serial]
    for target in ("alice", number, str(one.certificate)):
        with pytest.raises(PkiError, match=r"has been revoked already, on 2.* UTC; `nlb ca crl` writes the list again"):
            authority.revoke(target)
    with pytest.raises(BadValue, match='reason "certificateHold": one of unspecified, '):
        authority.revoke("bob", "certificateHold")


def _pairs(text: str) -> list[str]:
    return [text[at : at + 2] for at in range(0, len(text), 2)]


def test_a_stranger_with_the_same_serial(tmp_path: Path, authority: Authority) -> None:
    other = Authority.create(tmp_path / "other")
    stranger = other.issue(Request("alice", "client"), out=tmp_path)
    with pytest.raises(PkiError, match=r"this authority has not issued it"):
        authority.revoke(str(stranger.certificate))


def test_many(authority: Authority) -> None:
    """A list of 20,000 takes a part of a second, not minutes."""
    signer = Signer(authority.root, keys.load(authority.folder / "root.key", authority.root))
    now = index.now()
    entries = [
        Entry(number, "x", "client", "root", "CN=x", (), now, now, "", now, "superseded") for number in range(1, 20001)
    ]
    made = x509.load_pem_x509_crl(revoke.crl(signer, entries, 1, window(now, 7, authority.root)))
    assert len(made) == 20000
