"""Where a passphrase comes from: a file before the environment before systemd before a person, and only when needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
from nlbcore.pki.issue import Request
from nlbcore.pki.passphrase import Passphrase
from tests.support.programs import run

KEY = Path("ca/root.key")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NLB_CA_PASSPHRASE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def never(question: str) -> str:
    raise AssertionError(question)


def test_the_first_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("of the file\nmore\n")
    (tmp_path / "ca-passphrase").write_text("of systemd\n")
    assert [*Passphrase(ask=lambda _: "typed").of(KEY)] == [b"typed"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [*Passphrase(ask=never).of(KEY)] == [b"of systemd"]
    monkeypatch.setenv("NLB_CA_PASSPHRASE", "of the environment")
    assert [*Passphrase(ask=never).of(KEY)] == [b"of the environment"]
    assert [*Passphrase(tmp_path / "file", never).of(KEY)] == [b"of the file"]


def test_other_credentials_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [*Passphrase(ask=lambda _: "typed").of(KEY)] == [b"typed"]


def test_nobody_to_ask() -> None:
    with pytest.raises(PkiError) as caught:
        [*Passphrase().of(KEY)]
    assert caught.value.exit_code == 77
    assert str(caught.value) == (
        "ca/root.key is kept under a passphrase, and there is no terminal to ask at: --passphrase-file FILE, the variable"
        " NLB_CA_PASSPHRASE or systemd's LoadCredential=ca-passphrase:FILE gives it"
    )
    with pytest.raises(PkiError, match=r"a passphrase is needed, and there is no terminal"):
        Passphrase().new(Path("ca"))


def test_bad_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_text("x" * 1024)
    for name, message in [
        ("empty", "its first line, the password, is empty"),
        ("long", "the passphrase is longer than 1023 bytes"),
        ("none", "no such file or directory"),
    ]:
        with pytest.raises(PkiError, match=message):
            Passphrase(tmp_path / name).given()
    with pytest.raises(PkiError, match=r"Passphrase of ca/root.key: the passphrase is empty"):
        [*Passphrase(ask=lambda _: "").of(KEY)]
    monkeypatch.setenv("NLB_CA_PASSPHRASE", "")
    with pytest.raises(PkiError, match=r"NLB_CA_PASSPHRASE: the passphrase is empty"):
        Passphrase().given()


def test_asked_once_for_keys_under_the_same(tmp_path: Path) -> None:
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return "correct horse"

    Authority.create(tmp_path / "ca", passphrase=b"correct horse")
    authority = Authority.open(tmp_path / "ca", Passphrase(ask=ask))
    assert authority.entries()
    assert authority.describe()["root"]["key_encrypted"] is True
    assert questions == []  # looking needs no key
    authority.crl()
    authority.issue(Request("alice", "client"), out=tmp_path)
    assert questions == [f"Passphrase of {tmp_path}/ca/intermediate.key"]
    assert "ENCRYPTED" not in (tmp_path / "alice.key").read_text()


def test_asked_before_the_index_is_locked(tmp_path: Path) -> None:
    """While somebody types, other commands go on."""
    Authority.create(tmp_path / "ca", passphrase=b"one")
    other = Authority.open(tmp_path / "ca", Passphrase(ask=lambda _: "one"))
    other.issue(Request("alice", "client"), out=tmp_path)
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        other.issue(Request(f"meanwhile-{len(asked)}", "client"), out=tmp_path)
        return "one"

    for call in (
        lambda authority: authority.crl(),
        lambda authority: authority.revoke("alice", "certificateHold"),
        lambda authority: authority.release("alice"),
        lambda authority: authority.renew_authority(root_days=100, intermediate_days=50),
    ):
        call(Authority.open(tmp_path / "ca", Passphrase(ask=ask)))
    assert len(asked) == 4


def test_a_key_under_another(tmp_path: Path) -> None:
    """Re-encrypted by openssl, the root's key asks for its own."""
    Authority.create(tmp_path / "ca", passphrase=b"one")
    key = tmp_path / "ca/root.key"
    run(
        "openssl",
        "pkcs8",
        "-topk8",
        "-in",
        str(key),
        "-passin",
        "pass:one",
        "-out",
        f"{key}.new",
        "-passout",
        "pass:two",
    )
    Path(f"{key}.new").rename(key)
    answers = {f"Passphrase of {tmp_path}/ca/intermediate.key": "one", f"Passphrase of {key}": "two"}
    crl = Authority.open(tmp_path / "ca", Passphrase(ask=answers.__getitem__)).crl()
    assert (crl.complete, crl.warning) == (True, "")


def test_the_wrong_one(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", passphrase=b"one")
    before = {path: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
    authority = Authority.open(tmp_path / "ca", Passphrase(ask=lambda _: "two"))
    for call in (lambda: authority.issue(Request("alice", "client"), out=tmp_path / "out"), authority.crl):
        with pytest.raises(
            PkiError, match=r"the passphrase is not that of .*intermediate.key, or the file is dam"
        ) as caught:
            call()
        assert caught.value.exit_code == 77
        assert "two" not in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == before
    assert not (tmp_path / "out").exists()
