"""The order of a demo: a folder, two servers, the balancer, the checks, and then the log until a signal says stop.

Whatever happens, what was begun is ended in the opposite order; what cannot be (the demo is killed) ends by itself, see
`_demo_leash`. A signal interrupts once: a second one does not interrupt the end.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from nlbcli._demo_checks import AccessLog, Check, Clients
from nlbcli._demo_folder import BACKENDS, SERVER_ADDRESS, SOCKET, furnish, opened
from nlbcli._demo_leash import leashed
from nlbcli._demo_view import View
from nlbcore.control.client import call
from nlbcore.errors import EXIT_PERMISSION, BusyError, NlbError, NotRunningError, StartError

START_TIMEOUT = 15.0
"""Seconds until the balancer and its servers must be well."""
_PAUSE = 0.02
_LOOK = 0.1
"""Seconds between two looks at the access log."""
_TAIL = 20
"""Lines of the event log that are shown when something is wrong."""


@dataclass(frozen=True)
class Wishes:
    """What was typed; see `nlb demo --help`. Quiet: nothing is printed."""

    folder: Path | None
    port: int
    workers: int
    once: bool
    force: bool
    quiet: bool


def play(wishes: Wishes) -> list[Check]:
    """Run a demo to its end.

    Returns:
        how each check went
    Raises:
        NlbError: it cannot be run here and so; in words
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    view = View(quiet=wishes.quiet)
    _refuse_taken(wishes.port)
    shown: list[Check] = []
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(opened(wishes.folder, force=wishes.force))
            balancer = _started(stack, folder, wishes)
            view.made(folder, wishes.port, wishes.workers, kept=wishes.folder is not None)
            log = AccessLog(folder / "access.log")
            shown = _checked(view, Clients(folder, wishes.port, log), wishes.workers)
            if not wishes.once:
                view.to_try(folder, wishes.port)
                view.following()
                _follow(view, log, balancer, folder)
    except KeyboardInterrupt:
        if not shown:
            raise NlbError("interrupted before everything was shown") from None
    if not wishes.once:
        view.ended(kept=wishes.folder.absolute() if wishes.folder else None)
    return shown


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refuse_taken(port: int) -> None:
    """Tell early and in plain words; who takes it a moment later makes the balancer tell."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((SERVER_ADDRESS, port))
        except PermissionError:
            text = f"port {port} of {SERVER_ADDRESS} is for root only: choose one from 1024 on with --port"
            raise StartError(text, EXIT_PERMISSION) from None
        except OSError as error:
            text = (
                f"port {port} of {SERVER_ADDRESS}: {(error.strerror or 'failed').lower()}: choose another with --port"
            )
            raise StartError(text) from None


def _started(stack: contextlib.ExitStack, folder: Path, wishes: Wishes) -> subprocess.Popen[bytes]:
    """The servers and the balancer, all well."""
    ports = []
    for name in BACKENDS:
        with socket.create_server((SERVER_ADDRESS, 0), backlog=128) as listener:
            ports.append(listener.getsockname()[1])
            arguments = (str(listener.fileno()), f"server {name}")
            stack.enter_context(leashed("nlbcli._demo_server", *arguments, descriptors=[listener.fileno()]))
    furnish(folder, port=wishes.port, workers=wishes.workers, backends=ports)
    with (folder / "access.log").open("wb") as access, (folder / "events.log").open("wb") as events:
        order = ("run", "-c", str(folder / "nlb.toml"))
        balancer = stack.enter_context(leashed("nlbcli.main", *order, stdout=access, stderr=events))
    deadline = time.monotonic() + START_TIMEOUT
    while not _well(folder):
        if balancer.poll() is not None:
            raise NlbError(f"the balancer has not started:\n{_tail(folder)}")
        if time.monotonic() > deadline:
            raise NlbError(f"the balancer and its servers are not well after {START_TIMEOUT:g} s:\n{_tail(folder)}")
        time.sleep(_PAUSE)
    return balancer


def _well(folder: Path) -> bool:
    """Whether the balancer runs, and has found every server available."""
    try:
        status = call(folder / SOCKET, "status")
    except (NotRunningError, BusyError):
        return False
    states = {server["state"] for group in status["server_groups"] for server in group["servers"]}
    return status["state"] == "running" and states == {"Available"}


def _checked(view: View, clients: Clients, workers: int) -> list[Check]:
    """Make the checks."""
    made = []
    for make in (partial(clients.spread, workers), clients.without, clients.revoked):
        check = make()
        view.checked(check)
        made.append(check)
    return made


def _follow(view: View, log: AccessLog, balancer: subprocess.Popen[bytes], folder: Path) -> NoReturn:
    """The access log, until we are interrupted or the balancer is no more."""
    while True:
        ended = balancer.poll()
        for line in log.new():
            view.logged(line)
        if ended is not None:
            raise NlbError(f"the balancer has ended, with status {ended}:\n{_tail(folder)}")
        time.sleep(_LOOK)


def _tail(folder: Path) -> str:
    lines = (folder / "events.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL:])
