"""Fail on Cython's performance hints: a `nogil` function whose exception check takes the GIL after every call.

Translates every compiled module again (no C compiler needed), in the profile named by NLB_BUILD, and reads what Cython
says about it; warnings of Cython fail too.

Usage: check_hints.py [LOG]     with LOG the log of a forced rebuild is read instead
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HINTS = ("performance hint", "warning: nlbcore/", "warning: bench/")


def translate_again() -> None:
    """Everything from Cython to C in a folder that is thrown away."""
    sys.path.insert(0, str(ROOT))
    import setup

    name = setup.chosen()
    with tempfile.TemporaryDirectory() as folder:
        setup.translate(setup.modules(setup.PROFILES[name]), name, build_dir=folder, force=True)


def main(arguments: list[str]) -> int:
    if arguments == ["--translate"]:
        translate_again()
        return 0
    if arguments:
        log = Path(arguments[0]).read_text()
    else:
        command = [sys.executable, __file__, "--translate"]
        # One process: its workers' output would be mixed. A file: the hints go to stderr, the progress to stdout.
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))
        log = done.stdout + done.stderr
        if done.returncode != 0:
            print(log, end="")
            return done.returncode
    hints = [line for line in log.splitlines() if any(hint in line for hint in HINTS)]
    for line in hints:
        print(line)
    if not hints and "Cythonizing nlbcore" not in log:
        print("nothing was translated: no hint can have been seen")
        return 1
    return 1 if hints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
