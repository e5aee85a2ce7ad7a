"""confine.py UNIT COMMAND...: run a command under the restrictions that a systemd unit puts on system calls.

systemd itself makes them when it starts a service, and a test has no systemd to start one. The words of the unit are
turned into seccomp filters with systemd's own sets (`systemd-analyze syscall-filter`) and its own library, as
systemd.exec(5) describes them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import subprocess
import sys
from errno import EPERM
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | EPERM
EQUAL, MASKED_EQUAL = 4, 7
SHM_EXEC = 0o100000
FAMILIES = 46
"""AF_MAX: as many as Linux knows."""


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (("argument", ctypes.c_uint), ("how", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Filter:
    """A seccomp filter: what is not named in it gets `default`."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))
        assert self._context.value

    def add(self, action: int, name: str, *compared: tuple[int, int, int, int]) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # of another architecture
            return
        array = (Compare * len(compared))(*(Compare(*one) for one in compared))
        code = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(compared)), array
        )
        assert code == 0, f"{name}: {os.strerror(-code)}"

    def load(self) -> None:
        code = self._library.seccomp_load(self._context)
        assert code == 0, os.strerror(-code)


def expand(name: str) -> set[str]:
    """The system calls of one of systemd's sets."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    lines = {line.strip() for line in listed.stdout.splitlines()[1:]}
    return set().union(*(expand(line) for line in lines if line and not line.startswith("#")))


def settings(unit: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in unit.read_text().splitlines() if not line.startswith("#"))
    return {key: value for key, equal, value in lines if equal}


def confine(unit: Path) -> None:
    service = settings(unit)
    resource.setrlimit(resource.RLIMIT_CORE, (int(service["LimitCORE"]),) * 2)
    os.umask(int(service["UMask"], 8))

    calls = Filter(REFUSE)
    for name in set().union(*(expand(word) for word in service["SystemCallFilter"].split())):
        calls.add(ALLOW, name)

    others = Filter(ALLOW)
    assert service["MemoryDenyWriteExecute"] == "yes"
    executable = mmap.PROT_WRITE | mmap.PROT_EXEC
    others.add(REFUSE, "mmap", (2, MASKED_EQUAL, executable, executable))
    for name in ("mprotect", "pkey_mprotect"):
        others.add(REFUSE, name, (2, MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC))
    others.add(REFUSE, "shmat", (2, MASKED_EQUAL, SHM_EXEC, SHM_EXEC))
    allowed = {getattr(socket, name).value for name in service["RestrictAddressFamilies"].split()}
    for family in set(range(FAMILIES)) - allowed:
        others.add(REFUSE, "socket", (0, EQUAL, family, 0))

    others.load()
    calls.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
