#!/usr/bin/env python3
"""Write docs/options.md from the descriptions in nlbcore/config/model.py; with --check, fail if it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "options.md"


def main(arguments: list[str]) -> int:
    from nlbcore.config.render import reference

    if arguments not in ([], ["--check"]):
        print("usage: ci/options.py [--check]", file=sys.stderr)
        return 2
    text = reference()
    if not arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/options.md is out of date: run ci/options.py and commit the result", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
