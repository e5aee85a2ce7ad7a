"""Every source file has a test file of the same path; the exceptions are named with their reason, and still needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tree import ROOT, sources

# Source: why it has no test file of its own.
EXCEPTIONS = {
    "nlbcore/engine/_testing.pyx": "the tests' own door into compiled code, used by tests/engine",
    "bench/nlbbench/client_ssl.pyx": "a table of functions, all of which tests/bench/test_generator.py calls",
    "nlbcore/engine/hooks.py": "a protocol class and its explanation, nothing that runs",
    **dict.fromkeys(
        (
            f"nlbcore/process/{name}.py"
            for name in ("fleet", "preparation", "reload", "reloads", "supervisor", "upgrade", "verbs", "worker")
        ),
        "runs in processes of its own; tests/process and tests/wire run them as `nlb run` does",
    ),
}


def expected(source: Path) -> Path:
    """nlbcore/engine/loop.pyx -> tests/engine/test_loop.py, nlbcore/tls/policy.py -> tests/unit/tls/test_policy.py,
    cli/nlbcli/config/show.py -> tests/cli/config/test_show.py, bench/nlbbench/load.py -> tests/bench/test_load.py.
    """
    parts = source.with_suffix("").parts
    folder: tuple[str, ...]
    if parts[0] in {"cli", "bench"}:
        folder = (parts[0], *parts[2:-1])
    elif parts[1] == "engine":
        folder = parts[1:-1]
    else:
        folder = ("unit", *parts[1:-1])
    return Path("tests", *folder, f"test_{parts[-1].lstrip('_')}.py")


def covered(source: Path) -> list[Path]:
    """Sources with something to test: a package's empty door has nothing."""
    if source.name in {"__init__.py", "__main__.py"} and "def " not in (ROOT / source).read_text():
        return []
    return [source]


SOURCES = [one for source in sources(".py", ".pyx") for one in covered(source)]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_has_a_test(source: Path) -> None:
    there = (ROOT / expected(source)).exists()
    if str(source) in EXCEPTIONS:
        assert not there, f"{expected(source)} is there: take {source} off the list of exceptions"
    else:
        assert there, f"{source} has no {expected(source)}"


def test_exceptions_name_files_with_a_reason() -> None:
    for source, reason in EXCEPTIONS.items():
        assert (ROOT / source).exists(), source
        assert len(reason.split()) >= 4, source
