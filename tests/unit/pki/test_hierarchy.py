"""Root and intermediate renewed with the keys they have: whatever was issued before stays good, and so does new trust."""

from __future__ import annotations

import datetime as dt
import errno
import os
from pathlib import Path

import pytest
from cryptography import x509

from nlbcore.pki import hierarchy, index, issue, store
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request, Term
from nlbcore.pki.names import Subject
from tests.support.programs import run


def verify(trusted: Path, leaf: Path, untrusted: Path | None = None) -> None:
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(trusted)]
    run(*command, "-untrusted", str(untrusted or leaf), str(leaf))


def public_key(path: Path) -> bytes:
    return run("openssl", "x509", "-in", str(path), "-noout", "-pubkey").stdout


def test_keys_that_change_while_somebody_types(tmp_path: Path) -> None:
    """The new passphrase is asked for without a lock: nothing is written over what another command has written meanwhile."""
    authority = Authority.create(tmp_path / "ca")
    key = tmp_path / "ca/intermediate.key"

    def slow() -> bytes:
        Authority.create(tmp_path / "ca", force=True)
        return b"new"

    with pytest.raises(PkiError, match=r"another command has changed the keys of .*/ca meanwhile: try again"):
        authority.change_passphrase(["intermediate", "root"], slow)
    assert "ENCRYPTED" not in key.read_text()


@pytest.mark.parametrize("broken", [1, 2])
def test_both_keys_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    """The disk fails at the first or the second of the two names."""
    authority = Authority.create(tmp_path / "ca")
    before = {path: path.read_bytes() for path in authority.folder.iterdir()}
    name, count = store._name, 0

    def failing(source: Path, path: Path, *, replace: bool) -> None:
        nonlocal count
        count += 1
        if count == broken:
            raise store.failure("write", path, OSError(errno.EIO, os.strerror(errno.EIO)))
        name(source, path, replace=replace)

    monkeypatch.setattr(store, "_name", failing)
    with pytest.raises(PkiError, match=r"cannot write .*\.key: input/output error"):
        authority.change_passphrase(["intermediate", "root"], lambda: b"new")
    assert {path: path.read_bytes() for path in authority.folder.iterdir()} == before


def test_everything_old_and_new_is_good(tmp_path: Path) -> None:
    subject = Subject("DE", organization="Example")
    authority = Authority.create(tmp_path / "ca", subject=subject, days=100, intermediate_days=50, permit_dns=["test"])
    folder = authority.folder
    before = {name: (folder / name).read_bytes() for name in ("root.crt", "intermediate.crt", "root.key", "chain.crt")}
    for name, data in before.items():
        (tmp_path / f"old-{name}").write_bytes(data)
    alice = authority.issue(Request("alice", "client", "Alice"), out=tmp_path)
    old_root, old_intermediate = authority.root, authority.intermediate
    made = authority.renew_authority(root_days=3650, intermediate_days=1825)
    assert {which: clamped for which, (_, clamped) in made.items()} == {"root": False, "intermediate": False}
    bob = authority.issue(Request("bob", "client", "Bob"), out=tmp_path)
    for trusted in (folder / "root.crt", tmp_path / "old-root.crt"):
        for leaf in (alice.certificate, bob.certificate):
            for untrusted in (alice.certificate, bob.certificate):  # the old intermediate, and the new one
                verify(trusted, leaf, untrusted)
    verify(folder / "chain.crt", alice.certificate)
    assert (folder / "chain.crt").read_bytes() == (folder / "intermediate.crt").read_bytes() + (
        folder / "root.crt"
    ).read_bytes()
    for name, old in (("root", old_root), ("intermediate", old_intermediate)):
        new = authority._hierarchy.certificate(name)
        assert public_key(folder / f"{name}.crt") == public_key(tmp_path / f"old-{name}.crt")
        assert new.subject == old.subject
        assert new.serial_number != old.serial_number
        assert new.not_valid_after_utc > old.not_valid_after_utc
        for kind in (x509.NameConstraints, x509.BasicConstraints, x509.SubjectKeyIdentifier, x509.KeyUsage):
            assert new.extensions.get_extension_for_class(kind) == old.extensions.get_extension_for_class(kind)
        kept = folder / "old" / f"{name}-{index.serial_hex(old.serial_number)}.crt"
        assert kept.read_bytes() == before[f"{name}.crt"]
    assert (folder / "root.key").read_bytes() == before["root.key"]
    assert (folder / "old").stat().st_mode & 0o777 == 0o700
    assert [(entry.name, entry.profile) for entry in authority.entries()] == [
        ("intermediate", "ca"),
        ("alice", "client"),
        ("intermediate", "ca"),
        ("bob", "client"),
    ]
    authority.revoke("alice")
    crl = str(folder / "ca.crl")
    for trusted in (folder / "chain.crt", tmp_path / "old-chain.crt"):
        command = ["openssl", "verify", "-crl_check_all", "-CAfile", str(trusted), "-CRLfile", crl]
        assert b"certificate revoked" in run(*command, str(alice.certificate), check=False).stderr
        run(*command, str(bob.certificate))


def test_one_at_a_time(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=100, intermediate_days=50)
    end = authority.root.not_valid_after_utc
    made = authority.renew_authority(intermediate_days=1825)
    assert [*made] == ["intermediate"]
    assert made["intermediate"][1]  # clamped
    assert authority.intermediate.not_valid_after_utc == authority.root.not_valid_after_utc == end
    made = authority.renew_authority(root_days=200)
    assert [*made] == ["root"]
    assert not made["root"][1]
    assert authority.root.not_valid_after_utc > end
    assert authority.intermediate.not_valid_after_utc == end
    verify(authority.folder / "root.crt", authority.issue(Request("alice", "client"), out=tmp_path).certificate)
    assert len([*(authority.folder / "old").iterdir()]) == 2


def test_nothing_outlives_its_issuer(tmp_path: Path) -> None:
    """A shorter authority would leave the intermediate, or what it has issued, longer than who vouches for it."""
    authority = Authority.create(tmp_path / "ca", days=100, intermediate_days=50)
    authority.issue(Request("alice", "client", term=Term(days=20)), out=tmp_path)
    authority.issue(Request("bob", "client", term=Term(days=30)), out=tmp_path)
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    outlived = r' "10": bob would outlive its issuer: it is valid until .*; give more days, or revoke it first'
    for days, message in (
        ({"root_days": 10}, r'^days "10": the intermediate would outlive it, until .*: renew both'),
        ({"intermediate_days": 10}, f"^intermediate_days{outlived}"),
        ({"root_days": 90, "intermediate_days": 10}, f"^intermediate_days{outlived}"),
        ({"root_days": 10, "intermediate_days": 90}, f"^days{outlived}"),
    ):
        with pytest.raises(BadValue, match=message):
            authority.renew_authority(**days)
        assert {path.name: path.read_bytes() for path in authority.folder.iterdir() if path.is_file()} == before
    authority.revoke("bob")
    authority.renew_authority(intermediate_days=25)
    verify(authority.folder / "root.crt", tmp_path / "alice.crt")


def test_a_key_behind_a_link_stays_where_it_is(tmp_path: Path) -> None:
    """On a stick, for example: its new form is written there, and none here."""
    authority = Authority.create(tmp_path / "ca")
    (tmp_path / "stick").mkdir()
    link, key = authority.folder / "root.key", tmp_path / "stick/root.key"
    link.rename(key)
    link.symlink_to("../stick/root.key")
    assert authority.change_passphrase(["root"], lambda: b"new") == [key]
    assert link.is_symlink()
    assert "ENCRYPTED" in key.read_text()


def test_no_list_outlives_the_renewed(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", days=100, intermediate_days=3)
    assert authority.crl(30).next_update == authority.intermediate.not_valid_after_utc
    authority.renew_authority(intermediate_days=50)
    assert authority.crl(30).next_update - authority.intermediate.not_valid_before_utc > dt.timedelta(days=29)


def test_an_authority_that_has_expired_is_renewed(tmp_path: Path, authority: Authority) -> None:
    """The certificates are put back to last year; the keys are still there."""
    past = issue.Window(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2025, 1, 1, tzinfo=dt.UTC), clamped=False)
    root = authority._hierarchy.signer("root")
    signer = issue.Signer(issue.root(authority.root.subject, root.key, past), root.key)
    key = authority.intermediate.public_key()
    intermediate = issue.intermediate(authority.intermediate.subject, key, signer, past)  # type: ignore[arg-type]
    (authority.folder / "root.crt").write_bytes(hierarchy.pem(signer.certificate))
    (authority.folder / "intermediate.crt").write_bytes(hierarchy.pem(intermediate))
    path = authority.folder / "index"
    old, new = (index.serial_hex(one.serial_number) for one in (authority.intermediate, intermediate))
    path.write_text(path.read_text().replace(old, new))
    expired = Authority.open(authority.folder)
    for call in (lambda: expired.issue(Request("alice", "client"), out=tmp_path), expired.crl):
        with pytest.raises(
            PkiError, match=r"has expired on 2025-01-01 00:00 UTC: it can sign nothing any more until it"
        ):
            call()
    with pytest.raises(PkiError, match=r"CN=Example has expired"):
        expired.renew_authority(intermediate_days=50)
    expired.renew_authority(root_days=100, intermediate_days=50)
    verify(authority.folder / "root.crt", expired.issue(Request("alice", "client"), out=tmp_path).certificate)


def test_refused(tmp_path: Path, authority: Authority) -> None:
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    for days, field in (({"root_days": 0}, "days"), ({"intermediate_days": 99999}, "intermediate_days")):
        with pytest.raises(BadValue) as caught:
            authority.renew_authority(**days)
        assert caught.value.field == field
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    with pytest.raises(PkiError, match=r"cannot read .*root.key"):
        authority.renew_authority(intermediate_days=50)
    (tmp_path / "root.key").rename(authority.folder / "root.key")
    assert {path.name: path.read_bytes() for path in authority.folder.iterdir()} == before
    authority.revoke("intermediate", "keyCompromise")
    with pytest.raises(PkiError, match=r"has been revoked, and with it its key: make a new authority"):
        authority.renew_authority(intermediate_days=50)


def test_folder(tmp_path: Path) -> None:
    hierarchy.check_folder(tmp_path / "none", force=False)
    hierarchy.check_folder(tmp_path, force=False)
    (tmp_path / "x").write_text("x")
    with pytest.raises(PkiError, match=r"is not empty"):
        hierarchy.check_folder(tmp_path, force=True)
    (tmp_path / "x").rename(tmp_path / store.SETTINGS)
    with pytest.raises(PkiError, match=r"is an authority already"):
        hierarchy.check_folder(tmp_path, force=False)
    hierarchy.check_folder(tmp_path, force=True)
