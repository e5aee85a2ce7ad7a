"""The demo's folder: whose it may be, and certificates that openssl finds right."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from nlbcli._demo_folder import MARKER, PASSWORD, furnish, opened
from nlbcore.errors import BusyError, NlbError
from tests.support.programs import run


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    furnish(folder, port=8443, workers=2, backends=[8001, 8002])
    return folder


@pytest.mark.parametrize(
    ("name", "purpose"), [("server", "sslserver"), ("client", "sslclient"), ("revoked", "sslclient")]
)
def test_certificates(furnished: Path, name: str, purpose: str) -> None:
    trust = ("-CAfile", "ca/root.crt", "-untrusted", "ca/intermediate.crt")
    run("openssl", "verify", "-x509_strict", *trust, "-purpose", purpose, f"{name}.crt", cwd=furnished)


@pytest.mark.parametrize("name", ["localhost", "www.example.com"])
def test_the_servers_names(furnished: Path, name: str) -> None:
    done = run("openssl", "x509", "-in", "server.crt", "-noout", "-checkhost", name, cwd=furnished)
    assert b"does match" in done.stdout
    done = run("openssl", "x509", "-in", "server.crt", "-noout", "-checkip", "127.0.0.1", cwd=furnished)
    assert b"does match" in done.stdout


def test_only_one_is_revoked(furnished: Path) -> None:
    trust = ("-CAfile", "ca/chain.crt", "-CRLfile", "ca/ca.crl", "-crl_check")
    run("openssl", "verify", *trust, "client.crt", cwd=furnished)
    done = run("openssl", "verify", *trust, "revoked.crt", cwd=furnished, check=False)
    assert b"certificate revoked" in done.stdout + done.stderr


def test_the_bundle_opens_with_the_password(furnished: Path) -> None:
    bundle = ("-in", "client.p12", "-passin", f"pass:{PASSWORD}", "-nokeys")
    done = run("openssl", "pkcs12", *bundle, cwd=furnished)
    assert b"client-1" in done.stdout


def test_the_configuration(furnished: Path) -> None:
    tables = tomllib.loads((furnished / "nlb.toml").read_text())
    assert tables["node"]["workers"] == 2
    assert tables["listeners"]["web"]["bind"] == "127.0.0.1:8443"
    assert [one["address"] for one in tables["server_groups"]["app"]["servers"]] == ["127.0.0.1:8001", "127.0.0.1:8002"]


def test_a_throw_away_folder_is_removed_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), opened(None, force=False) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert not folder.exists()


def test_a_named_folder_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(Path("new/one"), force=False) as folder:
        assert folder == tmp_path / "new" / "one"
    assert folder.stat().st_mode & 0o077 == 0
    assert [one.name for one in folder.iterdir()] == [MARKER]


def test_an_earlier_demo_needs_force(tmp_path: Path) -> None:
    with opened(tmp_path, force=False):
        pass
    with pytest.raises(NlbError, match="--force"), opened(tmp_path, force=False):
        pass
    with opened(tmp_path, force=True):
        pass


def test_a_foreign_folder_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(NlbError, match="is not empty"), opened(tmp_path, force=True):
        pass


def test_a_running_demo_is_not_disturbed(tmp_path: Path) -> None:
    with opened(tmp_path, force=False), pytest.raises(BusyError, match="is running"), opened(tmp_path, force=True):
        pass


def test_a_folder_whose_path_leaves_no_room_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 25)
    with pytest.raises(NlbError, match="--dir"), opened(folder, force=False):
        pass
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(NlbError, match="TMPDIR"), opened(None, force=False):
        pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(NlbError, match=r"cannot use the folder .*: not a directory"),
        opened(tmp_path / "file" / "x", force=False),
    ):
        pass


def test_twice_in_one_folder(furnished: Path) -> None:
    before = (furnished / "client.crt").read_bytes()
    furnish(furnished, port=8443, workers=2, backends=[8001, 8002])
    assert (furnished / "client.crt").read_bytes() != before
    assert not [name for name in os.listdir(furnished) if name.endswith(".tmp")]
