"""No file is over its size limit, and no function, without saying why at its top: a line with "Long because ..."."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tree import ROOT, sources

FILE_LIMIT = {".py": 500, ".pyx": 700}
FUNCTION_LIMIT = 60
REASON = re.compile(r"\bLong because \w+")
TOP = 20  # lines in which a file says why

FUNCTION = re.compile(r"^(?P<indent> *)(?:async +def|def|cdef|cpdef)\b[^=\n]*\(")


def _functions(lines: list[str]) -> list[tuple[int, int]]:
    """First and last line (from 0) of every function of a Python or Cython source, by indentation."""
    found = []
    for first, line in enumerate(lines):
        match = FUNCTION.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        last = first
        for number in range(first + 1, len(lines)):
            text = lines[number]
            # A closing bracket of a signature over several lines stands at the function's own indentation.
            if text.strip() and len(text) - len(text.lstrip()) <= indent and not text.lstrip().startswith(")"):
                break
            if text.strip():
                last = number
        found.append((first, last))
    return found


@pytest.mark.parametrize("path", sources(*FILE_LIMIT), ids=str)
def test_size(path: Path) -> None:
    lines = (ROOT / path).read_text().splitlines()
    if len(lines) > FILE_LIMIT[path.suffix]:
        assert REASON.search("\n".join(lines[:TOP])), f"{path}: {len(lines)} lines, and its top does not say why"
    for first, last in _functions(lines):
        if last - first + 1 > FUNCTION_LIMIT:
            head = "\n".join(lines[max(first - 3, 0) : first + TOP])
            assert REASON.search(head), (
                f"{path}:{first + 1}: a function of {last - first + 1} lines that does not say why"
            )


def test_the_ruler() -> None:
    python = "def f(\n    a,\n) -> int:\n    return 1\n\n\n"
    cython = "cdef int g(int a) noexcept nogil:\n    if a:\n        return 1\n\n    return 2\n\ncdef int *t = &x\n"
    assert _functions((python + cython).splitlines()) == [(0, 3), (6, 10)]
