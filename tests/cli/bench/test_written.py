"""A report goes to the terminal or as JSON to a pipe, and to a folder; what is lacking for the charts is named."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from nlbcli.bench._written import written
from tests.bench.made_up import report


def test_json_and_a_folder_without_charts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in {"jinja2", "matplotlib"} else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    written(report(), tmp_path, as_json=True)
    said = capsys.readouterr()
    assert said.out == report().to_json() == (tmp_path / "report.json").read_text()
    assert said.err.splitlines() == [
        f"wrote {tmp_path}/report.json",
        "no page and no charts without jinja2 and matplotlib: pip install 'nlb[bench]'",
    ]


def test_a_table_and_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    written(report(), None)
    said = capsys.readouterr()
    assert "Full handshakes" in said.out
    assert said.err == ""
