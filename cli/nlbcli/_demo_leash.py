"""Programs that end with the demo, however it ends: orderly, by an exception, or killed.

A program is started through this module, which asks the kernel for a signal when its parent dies (prctl(2),
PR_SET_PDEATHSIG; it holds across exec) and then becomes that program. It gets a session of its own, so that Ctrl-C on
the terminal reaches the demo alone, and the demo ends the others in its order.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO

PR_SET_PDEATHSIG = 1
PATIENCE = 5.0
"""Seconds that a program may take to end."""


@contextlib.contextmanager
def leashed(
    module: str,
    *arguments: str,
    descriptors: Sequence[int] = (),
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m MODULE ARGUMENTS` while the context lasts.

    Args:
        module: its main program
        arguments: what it is told
        descriptors: what it inherits beside its outputs
        stdout: where it goes
        stderr: likewise
    """
    python = [sys.executable, "-P", "-m"]
    process = subprocess.Popen(
        [*python, __name__, str(os.getpid()), *python, module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(descriptors),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(arguments: Sequence[str]) -> None:
    """PARENT COMMAND...: become the command, on the leash of the process PARENT."""
    parent, *command = arguments
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):  # it has died before the kernel knew
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
