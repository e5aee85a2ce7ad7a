"""Imports go down only: the tree obeys ci/check_layers.py, and the check sees what it should."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from tests.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

spec = importlib.util.spec_from_file_location("check_layers", ROOT / "ci/check_layers.py")
assert spec is not None
assert spec.loader is not None
check_layers = importlib.util.module_from_spec(spec)

sys.modules[spec.name] = check_layers  # its dataclasses look their module up by name
spec.loader.exec_module(check_layers)


def test_the_tree_obeys() -> None:
    assert check_layers.check(ROOT) == []


BAD = {
    "engine/loop.pyx": [
        "from nlbcore.config.model import Config",
        "cimport nlbcore.tls.context",
        "from nlbcore.pool cimport schedulers",
        "from ..tls import policy",
        "from nlbcore.process.worker import (\n    one,\n    two)",
        "def f():\n    import nlbcore.observe.log",
    ],
    "engine/buf.pxd": ["from nlbcore.segment cimport x, y\nfrom nlbcore.tls.x cimport z"],
    "config/load.py": ["import os, nlbcore.tls", "from nlbcore import engine", "import nlbcli.main"],
    "tls/context.py": ["from nlbcore.config import load", "from nlbcore.config.check import check"],
    "pool/group.py": ["from nlbcore.engine import loop"],
    "observe/log.py": ["from nlbcore.engine.loop import x"],
    "errors.py": ["from nlbcore.config import finding", "import tests.support"],
    "novelty/thing.py": ["import nlbcore.errors"],
    "../cli/nlbcli/run.py": [
        "from nlbcore.process import worker",
        "from nlbcore.engine import engine",
        "from nlbbench.load import run",
    ],
    "../cli/nlbcli/bench/load.py": ["from nlbcore.process import worker"],
    "../bench/nlbbench/load.py": ["from nlbcore.process import worker", "import nlbcli.main"],
    "process/worker.py": ["import nlbbench"],
}
GOOD = {
    "engine/loop.pyx": [
        "from libc.stdint cimport int64_t",
        "from nlbcore.termination cimport word",
        "from .buf cimport (Buf,  # the cursors\n    sane)",
        "from nlbcore.engine cimport buf",
        '"""from nlbcore.config import model"""',
        "# from nlbcore.config import model",
        "from nlbcore.errors import NlbError, \\\n    StartError",
    ],
    "pool/schedulers.pyx": ["from nlbcore.engine.hooks cimport Route"],
    "tls/context.py": [
        "from nlbcore.config.model import Config",
        "from nlbcore.config import finding",
        "import OpenSSL",
    ],
    "observe/log.py": ["from nlbcore.engine import counters", "from nlbcore import __version__"],
    "process/worker.py": ["from nlbcore.engine import engine", "from nlbcore.config.load import load"],
    "../cli/nlbcli/run.py": ["from nlbcore.process.supervisor import serve", "import nlbcli.main"],
    "../cli/nlbcli/bench/load.py": ["from nlbbench.load import run", "import nlbcli.main"],
    "../bench/nlbbench/generator.pyx": [
        "from nlbcore.engine.openssl cimport ossl",
        "from nlbbench.spec import Load",
        "from nlbcore.errors import NlbError",
    ],
}


def _write(root: Path, path: str, text: str) -> None:
    file = root / "nlbcore" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in BAD.items() for text in texts])
def test_an_import_upwards_is_found(tmp_path: Path, path: str, text: str) -> None:
    _write(tmp_path, "__init__.py", "")
    _write(tmp_path, path, text)
    found = check_layers.check(tmp_path)
    assert len(found) == 1, found
    name = path.removeprefix("../") if path.startswith("..") else f"nlbcore/{path}"
    line = 1 + next(
        number for number, line in enumerate(text.split("\n")) if "import" in line and "segment" not in line
    )
    assert found[0].startswith(f"{name}:{line}: ")


@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in GOOD.items() for text in texts])
def test_an_import_downwards_is_not(tmp_path: Path, path: str, text: str) -> None:
    _write(tmp_path, path, text)
    assert check_layers.check(tmp_path) == []
