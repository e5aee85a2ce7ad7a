"""CI only calls what a developer can run: .ci/run is ci/run, every make target is there and says what it does."""

from __future__ import annotations

import os
import re

import pytest

from tests.tree import ROOT, run

SCRIPTS = (".ci/run", "ci/run")
TARGETS = ("help", "demo", "test", "lint", "types", "debug", "asan", "bench", "man", "completion", "clean")


def test_ci_calls_the_developers_script() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[1:] == ['exec bash "$(dirname "$0")/../ci/run" all']


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_bash_that_parses(script: str) -> None:
    path = ROOT / script
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert os.access(path, os.X_OK), f"{script} is not executable"
    done = run("bash", "-n", path)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_word_that_is_no_task_is_refused() -> None:
    done = run("bash", ROOT / "ci/run", "everything")
    assert done.returncode == 2
    assert "deps build lint types test debug" in done.stdout


def test_make_help_lists_every_target() -> None:
    done = run("make", "help")
    assert done.returncode == 0, done.stdout
    assert tuple(re.findall(r"^  make ([a-z]+) +\S", done.stdout, re.MULTILINE)) == TARGETS
