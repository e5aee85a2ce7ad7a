"""Reloads: material that is renewed in its place, reloads that must be refused, and what a balancer has open meanwhile."""

from __future__ import annotations

import copy
import ctypes
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.balancer import nlb, title
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.balancer import Balancer
    from tests.support.certs import Issued

Tables = dict[str, Any]


class Material:
    """A certificate, its key and other files under names that stay, in a folder of their own."""

    def __init__(self, folder: Path, issued: Issued) -> None:
        self.folder = folder
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.renew(issued)

    def renew(self, issued: Issued) -> None:
        """Another certificate in its place."""
        self.put("server.crt", issued.path)
        self.put("server.key", issued.key_path)

    def put(self, name: str, source: Path) -> Path:
        """A file's content under a name, replaced whole."""
        beside = self.folder / f"{name}.new"
        shutil.copy(source, beside)  # with its mode
        return beside.replace(self.folder / name)

    def entry(self) -> dict[str, str]:
        """It as an entry of `[[listeners.NAME.certificates]]`, like that of `Issued`."""
        return {"certificate": str(self.folder / "server.crt"), "private_key": str(self.folder / "server.key")}


def changed(tables: Tables, **listeners: Mapping[str, object] | None) -> Tables:
    """The configuration with other keys in some listeners; None: without that listener."""
    new = copy.deepcopy(tables)
    for name, keys in listeners.items():
        if keys is None:
            del new["listeners"][name]
        else:
            new["listeners"].setdefault(name, {}).update(keys)
    return new


def refused(balancer: Balancer, *words: str) -> dict[str, Any]:
    """A reload that must be refused: `nlb reload` ends with 1, the generation stays, and command, event log and status all say
    why; the command with these words. What the status says of it.
    """
    before, mark = balancer.ask("status"), len(balancer.events())
    done = nlb("reload", "--socket", balancer.control_socket)
    after = balancer.ask("status")
    said = f"{done.returncode}\n{done.stderr}\n{done.stdout}"
    assert done.returncode == 1, said
    assert not done.stdout, said
    assert f"generation {before['generation']} stays in force" in done.stderr, said
    assert after["generation"] == before["generation"]
    assert after["reloads"]["failed"] == before["reloads"]["failed"] + 1
    told: dict[str, Any] = after["reload"]
    assert (told["successful"], told["trigger"], told["generation"]) == (False, "command", before["generation"])
    assert told["reason"] in done.stderr
    balancer.wait_event("reload_refused", since=mark, reason=told["reason"], trigger="command")
    missing = [word for word in words if word not in done.stderr]
    assert not missing, f"{missing} not said: {said}"
    return told


def descriptors(balancer: Balancer) -> dict[str, int]:
    """How many the supervisor and each worker have."""
    return {title(one): one.num_fds() for one in [*balancer.processes()[:1], *balancer.workers()]}


def no_more_than(balancer: Balancer, before: Mapping[str, int]) -> None:
    """Wait until nobody has more descriptors than before."""
    wait_until(
        lambda: all(count <= before[name] for name, count in descriptors(balancer).items()),
        lambda: f"{before} descriptors: {descriptors(balancer)}",
        5,
    )


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """A process that does nothing until the end of the `with` statement, if it lives as long."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def swap_link(link: Path, target: Path) -> None:
    """Let a symbolic link lead elsewhere at one stroke."""
    beside = link.with_name(f"{link.name}.new")
    beside.symlink_to(target)
    os.replace(beside, link)


# -- upgrades -------------------------------------------------------------------------------------------------------------

SUBREAPER = 36


@contextmanager
def orphanage() -> Iterator[None]:
    """Until the end of the `with` statement, whoever of our descendants loses its parent is ours to wait for."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert prctl(SUBREAPER, 0, 0, 0, 0) == 0
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


class Orphan:
    """A process whose parent has ended, or is about to, as a `Popen`; in an `orphanage()` only."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            with suppress(ChildProcessError):  # not yet ours
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        with suppress(AssertionError):
            wait_until(lambda: self.poll() is not None, "the end", timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("nlb run", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def upgrade(balancer: Balancer, *, ask: bool = True) -> subprocess.Popen[bytes]:
    """USR2 (unless it was sent already), and wait until the successor is the balancer, which `balancer` is from then on. The
    old supervisor, which drains.
    """
    mark = len(balancer.events()) if ask else 0
    if ask:
        balancer.signal(signal.SIGUSR2)
    pid = int(balancer.wait_event("upgraded", 20, since=mark)["successor"])
    return follow(balancer, pid)


def follow(balancer: Balancer, pid: int) -> subprocess.Popen[bytes]:
    """Another process is the balancer; the one that was."""
    old, balancer._process = balancer._process, Orphan(pid)  # type: ignore[assignment]
    assert old is not None
    wait_until(lambda: balancer.ask("status")["pid"] == pid, "the successor answers")
    return old
