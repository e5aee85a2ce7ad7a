"""The rehearsal: everything that can be known about a configuration without a network and without binding anything.

`nlb check` prints it, `nlb run` and every reload obey it. For them it happens in a process of its own, the *checker*:
forked, short lived, without network. What it makes of the files is a sealed snapshot; parsers and their memory go with it.
The supervisor serves on meanwhile: it waits for the answer as for everything else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import select
import shlex
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import setproctitle

from nlbcore.config.check import check
from nlbcore.config.finding import Finding, in_order
from nlbcore.config.load import STAND_IN, load
from nlbcore.errors import EXIT_FAILED, StartError
from nlbcore.process.attendant import SIGNALS
from nlbcore.process.snapshot import Limits, NoRowError, Rows, Snapshot
from nlbcore.segment import GROUPS, LISTENERS, SERVERS
from nlbcore.tls import custom_policy
from nlbcore.tls.material import Material, load_material
from nlbcore.tls.policy import POLICIES, missing_suites, missing_versions

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from nlbcore.config.finding import KeyPath
    from nlbcore.config.load import Loaded
    from nlbcore.config.model import Config

ROOM = Limits(LISTENERS, GROUPS, SERVERS)
"""All that the segment has."""

_PIECE = 1 << 20
DESCRIPTORS_PER_CONNECTION = 2
"""One towards the client, one towards the server."""

SPARE_DESCRIPTORS = 64
"""Listening sockets, logs, channels, the interpreter's own."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`material` and `rows` are None if there is any error, `loaded.config` may be there all the same."""

    loaded: Loaded
    material: Material | None = field(repr=False)
    rows: Rows | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether `nlb run` would start with it."""
        return not self.errors


def rehearse(
    path: Path, limits: Limits = ROOM, living: Sequence[Rows] = (), at: datetime.datetime | None = None
) -> Rehearsal:
    """Read a configuration and all that it names; tell every finding in the order of the file.

    Args:
        path: the configuration file
        limits: how many rows there are to number it with
        living: the rows of the generations that somebody still needs, the newest last
        at: another time than now that CAs are judged by, for `nlb explain`
    """
    loaded = load(path)
    findings = [*loaded.findings, *check(loaded)]
    material = rows = None
    if loaded.partial is not None:
        material, remarks = load_material(loaded.partial, loaded.locate, str(path), at)
        findings += loaded.real(remarks)
        for part in (_policies, _descriptors, _folders):
            findings += loaded.real(part(loaded, loaded.partial))
        if material is not None:
            findings += loaded.real(_served(loaded, loaded.partial, material))
    if loaded.config is not None:
        try:
            rows = Rows.number(loaded.config, limits, living)
        except NoRowError as error:
            hint = "restart the balancer" if living else ""
            findings.append(Finding(str(path), 0, 0, "error", "", str(error), hint))
    if any(finding.severity == "error" for finding in findings):
        material = rows = None
    return Rehearsal(loaded, material, rows, in_order(findings))


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checker says: every finding, and the sealed snapshot (a memfd that the caller owns) unless one is an
    error.
    """

    findings: tuple[Finding, ...]
    sealed: int | None


class Checker:
    """The checker at work, as its parent sees it; nothing here waits for it.

    Before the fork: signals are blocked, so that none meant for the child reaches the supervisor's wakeup descriptor. After
    it the child has signals of its own and closes every descriptor but its end of the socket: a listening socket or a
    worker's channel must not live on in it.

    Args:
        path: the configuration file
        generation: the number of the snapshot to make
        limits: how many rows there are
        living: the rows of the generations that somebody still needs, the newest last
    Raises:
        StartError: there is no process or no descriptor left

    Attributes:
        pid: of the process; 0 once it has ended or was killed
    """

    _killed: ClassVar[set[int]] = set()

    def __init__(self, path: Path, generation: int, limits: Limits = ROOM, living: Sequence[Rows] = ()) -> None:
        self.reap()
        self.pid = 0
        self._answer = bytearray()
        self._fds: list[int] = []
        self._lost = False
        try:
            self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise StartError(f"the checker cannot be started: {error.strerror}") from None
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become_checker(path, generation, limits, living, theirs)
        except OSError as error:
            self._sock.close()
            raise StartError(f"the checker cannot be started: {error.strerror}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """Readable when there is something to `read()`; -1 once that has said all."""
        return self._sock.fileno()

    def read(self) -> Checked | None:
        """What it says; None while that is not whole.

        Raises:
            StartError: it has ended without an answer
        """
        try:
            while True:
                data, fds, flags, _ = socket.recv_fds(self._sock, _PIECE, 1, socket.MSG_CMSG_CLOEXEC)
                self._fds += fds
                self._lost = self._lost or bool(flags & socket.MSG_CTRUNC)
                if not data:
                    break
                self._answer += data
        except BlockingIOError:
            return None
        except OSError as error:
            self.kill()
            raise StartError(f"the checker's answer cannot be read: {error.strerror}") from None
        self._sock.close()
        # Its end is closed by its exit, after its memory was given back: there is nothing left to wait for.
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        if os.waitstatus_to_exitcode(status) != 0 or self._lost:
            self.kill()
            raise StartError(
                "the checker's snapshot cannot be taken: too many open files"
                if self._lost
                else "the checker ended without an answer; what it printed stands above"
            )
        sealed = self._fds.pop() if self._fds else None
        return Checked(pickle.loads(self._answer), sealed)  # noqa: S301 - from our own child

    def kill(self) -> None:
        """Give it up, wherever it is; nothing is left of it but what `reap()` collects."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self._killed.add(self.pid)
            self.pid = 0
        self._sock.close()
        while self._fds:
            os.close(self._fds.pop())
        self.reap()

    @classmethod
    def reap(cls) -> None:
        """Collect those that were killed and have come to their end: at SIGCHLD, and before the next one."""
        for pid in tuple(cls._killed):
            with contextlib.suppress(ChildProcessError):  # the system collects them where SIGCHLD is ignored
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            cls._killed.discard(pid)


def check_apart(path: Path, generation: int, limits: Limits = ROOM) -> Checked:
    """Rehearse in a process of its own, and wait for it.

    Raises:
        StartError: it ended without an answer
    """
    checker = Checker(path, generation, limits)
    try:
        while (checked := checker.read()) is None:
            select.select([checker], [], [])
    finally:
        checker.kill()
    return checked


def _become_checker(
    path: Path, generation: int, limits: Limits, living: Sequence[Rows], theirs: socket.socket
) -> NoReturn:
    status = EXIT_FAILED
    try:
        from nlbcore.process.slot import close_all_but  # not needed by `nlb check`, nor the workers' code behind it

        gc.freeze()  # what the supervisor held is not ours to finalise: its numbers name other files here
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        close_all_but(sorted({0, 1, 2, theirs.fileno()}))
        setproctitle.setproctitle("nlb: checker")
        rehearsal = rehearse(path, limits, living)
        answer = pickle.dumps(rehearsal.findings)
        fds = []
        if rehearsal.loaded.config is not None and rehearsal.material is not None and rehearsal.rows is not None:
            fds.append(Snapshot(generation, rehearsal.loaded.config, rehearsal.material, rehearsal.rows).seal())
        sent = socket.send_fds(theirs, [answer], fds)
        theirs.sendall(memoryview(answer)[sent:])
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        pass  # who has asked was told to stop meanwhile
    except OSError as error:
        print(f"nlb: the checker: {error}", file=sys.stderr)
    except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _policies(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """What is wrong with the operator's policies; what the OpenSSL in use lacks of a built-in one, which serves the rest."""
    for name, table in config.security_policies.items():
        if not loaded.whole(("security_policies", name)):
            continue  # what stands in for a broken value would be judged
        for where, severity, text, hint in custom_policy.remarks(name, table):
            several = len(getattr(table, str(where[0]))) > 1
            path: KeyPath = ("security_policies", name, *(where if several else where[:1]))
            yield loaded.finding(path, severity, text, hint)
    for name, listener in config.listeners.items():
        if listener.protocol != "TCPSSL" or listener.security_policy not in POLICIES:
            continue
        policy = POLICIES[listener.security_policy]
        for what, missing in (("cipher suite", missing_suites(policy)), ("version", missing_versions(policy))):
            if missing:
                yield loaded.finding(
                    ("listeners", name, "security_policy"),
                    "warning",
                    f"the OpenSSL in use lacks {_several(len(missing), what)} of {policy.name}: {', '.join(missing)}",
                )


def _served(loaded: Loaded, config: Config, material: Material) -> Iterator[Finding]:
    """Policies and certificates that do not go together."""
    for name, listener in config.listeners.items():
        policy = custom_policy.policy_named(listener.security_policy, config.security_policies)
        kinds = [one.key_type for one in material.listeners[name].certificates]
        remark = custom_policy.certificate_remark(policy, kinds)
        if remark is not None:
            yield loaded.finding(("listeners", name, "security_policy"), remark[0], f"{policy.name}: {remark[1]}")


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _descriptors(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """The hard limit is what counts: the soft one is raised to it at start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return
    possible = max(0, hard - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION
    wanted = 0
    for name, listener in config.listeners.items():
        wanted += listener.max_connections
        if wanted > possible and listener.max_connections:
            yield loaded.finding(
                ("listeners", name, "max_connections"),
                "warning",
                f"the limit of {hard} open files allows about {possible} connections, "
                f"but {wanted} are asked for up to here",
                "raise it with LimitNOFILE= or ulimit -n",
            )
            return


def _folders(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """Files and sockets that will be made need a folder to be made in."""
    places: list[tuple[KeyPath, Path]] = [
        (("log", key), target)
        for key, target in (("file", config.log.file), ("access", config.log.access))
        if isinstance(target, Path)
    ]
    yield from _control_socket(loaded, config.node.control_socket)
    for name, listener in config.listeners.items():
        several = len(listener.bind) > 1
        for index, endpoint in enumerate(listener.bind):
            if endpoint.path is not None:
                key: KeyPath = ("listeners", name, "bind", *((index,) if several else ()))
                places.append((key, Path(endpoint.path)))
    for key, path in places:
        if str(path).startswith(STAND_IN):
            continue
        kept = key[0] == "log" and os.access(path, os.F_OK)  # a log is appended to, a socket is made anew
        if _is_folder(path):
            yield loaded.finding(key, "error", f"{path} is a folder")
        elif not _is_folder(path.parent):
            yield loaded.finding(
                key, "error", f"there is no folder {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}"
            )
        elif not os.access(path if kept else path.parent, os.W_OK):
            hint = "run as the user that nlb runs as"
            yield loaded.finding(key, "error", f"{path} may not be written", hint, denied=True)


def _control_socket(loaded: Loaded, path: Path) -> Iterator[Finding]:
    """Its folder is made where only that is missing."""
    key: KeyPath = ("node", "control_socket")
    folder = path.parent if _is_folder(path.parent) else path.parent.parent
    if not _is_folder(folder):
        hint = f"mkdir -p {shlex.quote(str(path.parent))}"
        yield loaded.finding(key, "error", f"there is no folder {path.parent} for {path.name}", hint)
    elif not os.access(folder, os.W_OK):
        hint = 'give it a place that this user can write, as in control_socket = "nlb.sock"'
        yield loaded.finding(key, "error", f"{path} may not be made", hint, denied=True)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
