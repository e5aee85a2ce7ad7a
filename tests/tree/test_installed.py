"""The tests run against the installed package, not the source folder (an editable install is the developer's own business)."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import pytest

import nlbbench
import nlbcli
import nlbcore
from tests.tree import ROOT, run


def test_sources_are_not_importable_by_accident() -> None:
    assert "" not in sys.path
    assert str(ROOT) not in sys.path or _editable()


def _editable() -> bool:
    text = importlib.metadata.distribution("nlb").read_text("direct_url.json")
    return bool(json.loads(text or "{}").get("dir_info", {}).get("editable"))


@pytest.mark.skipif(os.environ.get("NLB_TESTS_NO_SKIP") != "1", reason="only CI promises a real install")
def test_the_package_under_test_is_the_installed_one() -> None:
    for package in (nlbcore, nlbcli, nlbbench):
        assert package.__file__ is not None
        assert not Path(package.__file__).is_relative_to(ROOT / package.__name__), package.__file__
        assert "site-packages" in package.__file__


def test_the_command_is_there() -> None:
    done = run(Path(sys.executable).parent / "nlb", "--version", cwd=Path("/"))
    assert done.returncode == 0, done.stdout
    assert nlbcore.__version__ in done.stdout
