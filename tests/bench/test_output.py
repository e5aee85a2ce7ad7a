"""The files of a report, whole, over earlier ones; a folder that cannot be written is told before anything is measured."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from nlbbench import output, results
from nlbbench.trials import TRIALS
from nlbcore.errors import NlbError
from tests.bench.made_up import report, sample


@pytest.fixture(scope="module", autouse=True)
def fonts_are_open(module_folder: Path) -> None:
    """matplotlib keeps them open from its first picture on."""
    output.write(report(samples=(sample(TRIALS["full"], "nlb", 0),)), module_folder)


def test_three_files(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    made = report(samples=tuple(one for one in report().samples if one.trial in {"full", "idle"}))
    written = output.write(made, folder)
    assert [path.name for path in written] == ["report.json", "report.html", "report.png"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert results.load(folder / "report.json") == made
    assert [path.name for path in output.write(report(samples=()), folder)] == ["report.json", "report.html"]
    assert results.load(folder / "report.json").samples == ()


def test_without_what_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "matplotlib" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert output.missing() == ["matplotlib"]
    assert [path.name for path in output.write(report(), tmp_path)] == ["report.json"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(NlbError, match="file cannot be written to: file exists"):
        output.prepare(path)
