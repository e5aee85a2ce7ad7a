"""Lists that openssl accepts: one for each authority, numbers going up, dates in bounds, a hundred thousand in seconds."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import index, keys, lists
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
from nlbcore.pki.index import Entry
from nlbcore.pki.issue import Request, Signer, Window
from tests.support.programs import run

SECOND = dt.timedelta(seconds=1)  # between one list's signature and the next
END = b"-----END X509 CRL-----\n"


def read(path: Path) -> list[x509.CertificateRevocationList]:
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
    by_intermediate, by_root = read(authority.folder / "ca.crl")
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
    made = read(crl.path)
    assert [one.issuer for one in made] == [authority.intermediate.subject, authority.root.subject]
    for one, signer in zip(made, (authority.intermediate, authority.root), strict=True):
        assert one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4
        own = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
        assert abs(end(one) - crl.next_update) <= SECOND
        assert end(one) - one.last_update_utc == dt.timedelta(days=20, minutes=5)
        path = authority.folder / ("intermediate.crl" if signer is authority.intermediate else "root.crl")
        assert path.read_bytes() == one.public_bytes(Encoding.DER)
        assert path.stat().st_mode & 0o777 == 0o600
        done = run("openssl", "crl", "-inform", "DER", "-in", str(path), "-CAfile", str(authority.chain), "-noout")
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
    before = read(authority.folder / "ca.crl")
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    revoked = authority.revoke("bob")
    warning = revoked.crl.warning
    assert warning.startswith(f"cannot read {authority.folder}/root.key: no such file or directory: the root's list")
    assert f"stays as it is, good until {index.readable(end(before[1]))} (" in warning
    assert revoked.crl.complete
    after = read(authority.folder / "ca.crl")
    assert after[1] == before[1]
    assert (revoked.crl.number, lists.number_of(after[0])) == (2, 2)
    assert revoked.crl.next_update == end(after[0]) < end(after[1])
    assert "certificate revoked" in openssl_verify(authority, bob.certificate)
    assert openssl_verify(authority, alice.certificate) == f"{alice.certificate}: OK\n"
    assert authority.crl().warning == warning
    (tmp_path / "root.key").rename(authority.folder / "root.key")
    assert not authority.crl().warning
    assert [lists.number_of(one) for one in read(authority.folder / "ca.crl")] == [4, 4]


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
        path.write_bytes(lists.sign(signer, [], 5, past).public_bytes(Encoding.PEM))
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
    made = read(path)
    assert len(made) == 1 + kept
    assert [one.serial_number for one in made[0]] == [alice.entry.serial]
    assert crl.next_update == min(end(one) for one in made if end(one) > now)
    with pytest.raises(PkiError, match=remark):
        authority.crl()
    assert lists.number_of(read(path)[0]) == crl.number + 1


def test_how_long_a_kept_list_is_good(authority: Authority) -> None:
    authority.crl(5)
    there = lists.lists(authority.folder / "ca.crl")
    last = end(there[1])
    for left, text in [
        (dt.timedelta(days=3), "(3 days)"),
        (dt.timedelta(days=1), "(one day)"),
        (dt.timedelta(hours=2), "(less than a day)"),
    ]:
        part = lists.kept(there, authority.root, [], last - left)
        assert part.current
        assert part.remark.endswith(text)
    assert not lists.kept(there, authority.root, [], last).current


def test_lists_that_cannot_be_read(tmp_path: Path, authority: Authority) -> None:
    authority.crl()
    path = authority.folder / "ca.crl"
    broken = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    path.write_bytes(b"\xff" + broken + path.read_bytes())
    assert [one.issuer for one in lists.lists(path)] == [authority.intermediate.subject, authority.root.subject]
    assert lists.lists(tmp_path / "none") == []


def index_entry(authority: Authority, name: str) -> Entry:
    return next(entry for entry in authority.entries() if entry.name == name)


def test_no_list_claims_dates_past_its_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=20, intermediate_days=10)
    authority.crl(365)
    by_intermediate, by_root = read(authority.folder / "ca.crl")
    assert by_intermediate.next_update_utc == authority.intermediate.not_valid_after_utc
    assert by_root.next_update_utc == authority.root.not_valid_after_utc
    assert by_root.last_update_utc >= authority.root.not_valid_before_utc


def test_a_list_is_written_again_when_it_is_old_enough(authority: Authority) -> None:
    """Older than asked, due within it, behind the index, or not there at all."""
    path = authority.folder / "ca.crl"
    day, week = dt.timedelta(days=1), dt.timedelta(days=7)
    first = authority.crl(if_older=day)
    assert (first.number, first.written) == (1, True)
    before = path.read_bytes()
    second = authority.crl(if_older=day)
    assert (second.number, second.written, path.read_bytes()) == (1, False, before)
    assert (second.next_update, second.revoked) == (first.next_update, 0)
    assert authority.crl(if_older=week).number == 2  # due within a week
    assert authority.crl(if_older=dt.timedelta()).number == 3
    path.write_bytes(before)  # what a crash between the index and the list leaves
    assert authority.crl(if_older=day).number == 4
    for name in ("ca.crl", "root.crl", "intermediate.crl"):
        (authority.folder / name).unlink()
        assert authority.crl(if_older=day).written, name
    path.write_bytes(b"garbage")
    assert authority.crl(if_older=day).number == 8


def test_an_old_list_of_the_root_counts_where_its_key_is(tmp_path: Path, authority: Authority) -> None:
    day = dt.timedelta(days=1)
    now = index.now()
    authority.crl()
    path = authority.folder / "ca.crl"
    by_intermediate = read(path)[0].public_bytes(Encoding.PEM)
    signer = Signer(authority.root, keys.load(authority.folder / "root.key", authority.root))

    def with_root_list(begin: dt.timedelta, end: dt.timedelta) -> None:
        one = lists.sign(signer, [], 1, Window(now + begin, now + end, clamped=False))
        path.write_bytes(by_intermediate + one.public_bytes(Encoding.PEM))

    (authority.folder / "root.key").rename(tmp_path / "root.key")
    with_root_list(-10 * day, 3 * day)
    assert not authority.crl(if_older=day).written  # nobody could sign another
    with_root_list(-10 * day, -day)
    with pytest.raises(PkiError, match=r"the root's list is overdue since"):
        authority.crl(if_older=day)
    (tmp_path / "root.key").rename(authority.folder / "root.key")
    with_root_list(-10 * day, 3 * day)
    assert authority.crl(if_older=day).written


def test_on_hold_and_back(tmp_path: Path, authority: Authority) -> None:
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    authority.revoke("alice", "certificateHold")
    (one,) = read(authority.folder / "ca.crl")[0]
    assert [extension.value for extension in one.extensions] == [x509.CRLReason(x509.ReasonFlags.certificate_hold)]
    assert "certificate revoked" in openssl_verify(authority, alice.certificate)
    released = authority.release("alice")
    assert [(entry.name, entry.revoked_at) for entry in released.entries] == [("alice", None)]
    assert (released.crl.number, released.crl.revoked) == (2, 0)
    assert openssl_verify(authority, alice.certificate) == f"{alice.certificate}: OK\n"
    authority.revoke("alice", "certificateHold")
    authority.revoke("alice", "keyCompromise")
    (one,) = read(authority.folder / "ca.crl")[0]
    assert [extension.value for extension in one.extensions] == [x509.CRLReason(x509.ReasonFlags.key_compromise)]


MANY = """
import datetime as dt, secrets, sys, time
from pathlib import Path
from nlbcore.pki import index
from nlbcore.pki.authority import Authority
folder = Path(sys.argv[1])
template = (folder / "index").read_text()
authority = Authority.open(folder)
with index.opened(folder / "index", change=True) as journal:
    entry = journal.entries[authority.intermediate.serial_number]
    events = []
    for number in range(100_000):
        serial = f"{secrets.randbits(158) | 1 << 152:040X}"
        events.append(template.splitlines()[0].replace(entry.serial_hex, serial).replace('"issuer": "root"', '"issuer": "intermediate"'))
        events.append('{"event": "revoked", "time": "2026-01-01T00:00:00Z", "serial": "%s", "reason": "superseded"}' % serial)
with (folder / "index").open("a") as stream:
    stream.write("\\n".join(events) + "\\n")
begin = time.process_time()
crl = authority.crl()
print(crl.revoked, time.process_time() - begin)
"""


def test_a_hundred_thousand(authority: Authority) -> None:
    """Read from the index, signed and written within seconds of processor time; openssl counts them."""
    command = [sys.executable, "-c", MANY, str(authority.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    revoked, seconds = done.stdout.split()
    assert int(revoked) == 100_000
    assert float(seconds) < 10
    path = authority.folder / "intermediate.crl"
    command = ["openssl", "crl", "-inform", "DER", "-in", str(path), "-CAfile", str(authority.chain), "-noout"]
    assert b"verify OK" in run(*command).stderr
    assert len(x509.load_der_x509_crl(path.read_bytes())) == 100_000
