"""ca.toml: written, read back, and refused with the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki.errors import PkiError
from nlbcore.pki.settings import Settings, load, render


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "ca.toml"
    settings = Settings('A "quoted" \\ Müller', "ed25519", 10, 20, 30)
    path.write_bytes(render(settings))
    assert load(path) == settings
    assert (settings.days("server"), settings.days("client")) == (10, 20)


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "ca.toml"
    path.write_text('format = 1\nname = "x"\n')
    assert load(path) == Settings("x", "ec-p256", 90, 30, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = ", "ca.toml is not a TOML file: Invalid value (at end of document)"),
        ("format = 2", "ca.toml: format: 1 is the only one known; was this written by a newer nlb?"),
        ("", "ca.toml: format: 1 is the only one known"),
        ("format = 1\nserver_dys = 3", "ca.toml: server_dys: unknown key; known are name, key_type, server_days, "),
        ('format = 1\nserver_days = "3"', "ca.toml: server_days: a number is expected"),
        ("format = 1\nserver_days = true", "ca.toml: server_days: a number is expected"),
        ("format = 1\nname = 3", "ca.toml: name: a string is expected"),
        ("format = 1\ncrl_days = 0", "ca.toml: crl_days: 1 to 36500 days are possible"),
        ("format = 1", "ca.toml: name: missing"),
        ('format = 1\nname = "x"\nkey_type = "dsa"', "ca.toml: key_type: one of ec-p256, "),
        ("format = 1\nname = '\udcff'", "ca.toml is not a TOML file: "),
        (None, " is not a certificate authority: it has no ca.toml. `nlb ca init "),
    ],
)
def test_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "ca.toml"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PkiError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"cannot read .*: is a directory"):
        load(tmp_path)
