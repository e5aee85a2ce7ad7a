"""Generated documents are up to date, the version is one, and the packages are whole."""

from __future__ import annotations

import sys
import tomllib

import nlbcore
from tests.tree import ROOT, run, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_option_reference_is_up_to_date() -> None:
    done = run(sys.executable, "ci/options.py", "--check")
    assert done.returncode == 0, done.stdout


def test_one_version() -> None:
    assert PROJECT["version"] == nlbcore.__version__
    assert f"\n## {nlbcore.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_lower_bounds_only() -> None:
    for one in (
        *PROJECT["dependencies"],
        *(name for extra in PROJECT["optional-dependencies"].values() for name in extra),
    ):
        assert ">=" in one, one
        assert "<" not in one, f"{one}: an upper bound keeps users from the next OpenSSL fix"
        assert "==" not in one, one


def test_every_folder_with_sources_is_a_package() -> None:
    """setuptools leaves out a folder without `__init__.py`, and says nothing."""
    for folder in {path.parent for path in sources(".py", ".pyx")}:
        assert (ROOT / folder / "__init__.py").exists(), folder


def test_types_are_shipped() -> None:
    assert (ROOT / "nlbcore/py.typed").exists()
    assert (ROOT / "cli/nlbcli/py.typed").exists()
    assert (ROOT / "bench/nlbbench/py.typed").exists()
