"""What is printed obeys no certificate, and passwords come from files and terminals only."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcli.ca.options import UsageProblem
from nlbcli.cert import _paper


def test_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    _paper.tell("CN=\x1b[2J\x07ü\r\nx\u202e")
    _paper.tell_table([("a", "1"), ("long", "2\x00"), ("", "3")], "  ")
    assert capsys.readouterr().out == "CN=?[2J?ü??x?\n  a     1\n  long  2?\n        3\n"


def test_colours_only_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _paper.coloured("ok", 7) == "\x1b[32mok     \x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert _paper.coloured("error", 7) == "error  "


def test_a_password_without_a_terminal(tmp_path: Path) -> None:
    """pytest's stdin is none."""
    (tmp_path / "password").write_text("hunter2\n")
    assert _paper.secret("x", tmp_path / "password") == "hunter2"
    with pytest.raises(UsageProblem, match="x needs a password, and there is no terminal to ask at: give --key FILE"):
        _paper.secret("x", None, "--key")
    assert _paper.opener(Path("x.p12"), None) is None
    opener = _paper.opener(Path("x.p12"), tmp_path / "password")
    assert opener is not None
    assert opener() == "hunter2"
