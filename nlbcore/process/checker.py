"""The rehearsal: everything that can be known about a configuration without a network and without binding anything.

`nlb check` prints it, `nlb run` obeys it. For `nlb run` it happens in a process of its own, the *checker*: forked, short
lived, without network. What it makes of the files is a sealed snapshot; parsers and their memory go with it.
"""

from __future__ import annotations

import os
import pickle
import resource
import shlex
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import setproctitle

from nlbcore.config.check import check
from nlbcore.config.finding import Finding, in_order
from nlbcore.config.load import STAND_IN, load
from nlbcore.errors import EXIT_FAILED, StartError
from nlbcore.process.snapshot import Rows, Snapshot
from nlbcore.tls.material import Material, load_material
from nlbcore.tls.policy import POLICIES, missing_suites, missing_versions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from nlbcore.config.finding import KeyPath
    from nlbcore.config.load import Loaded
    from nlbcore.config.model import Config

_PIECE = 1 << 20

DESCRIPTORS_PER_CONNECTION = 2
"""One towards the client, one towards the server."""

SPARE_DESCRIPTORS = 64
"""Listening sockets, logs, channels, the interpreter's own."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`material` is None if there is any error, `loaded.config` may be there all the same."""

    loaded: Loaded
    material: Material | None = field(repr=False)
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


def rehearse(path: Path) -> Rehearsal:
    """Read a configuration and all that it names; tell every finding in the order of the file."""
    loaded = load(path)
    findings = [*loaded.findings, *check(loaded)]
    material = None
    if loaded.partial is not None:
        material, remarks = load_material(loaded.partial, loaded.locate, str(path))
        findings += loaded.real(remarks)
        for part in (_policies, _descriptors, _folders):
            findings += loaded.real(part(loaded, loaded.partial))
    failed = any(finding.severity == "error" for finding in findings)
    return Rehearsal(loaded, None if failed else material, in_order(findings))


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checker says: every finding, and the sealed snapshot (a memfd that the caller owns) unless one is an
    error.
    """

    findings: tuple[Finding, ...]
    sealed: int | None


def check_apart(path: Path, generation: int) -> Checked:
    """Rehearse in a process of its own.

    Raises:
        StartError: it ended without an answer
    """
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"the checker cannot be started: {error.strerror}") from None
    with ours:
        try:
            pid = os.fork()
        except OSError as error:
            theirs.close()
            raise StartError(f"the checker cannot be started: {error.strerror}") from None
        if pid == 0:
            _become_checker(path, generation, theirs)
        theirs.close()
        chunks = []
        data, fds, _, _ = socket.recv_fds(ours, _PIECE, 1, socket.MSG_CMSG_CLOEXEC)
        while data:
            chunks.append(data)
            data = ours.recv(_PIECE)
        _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise StartError("the checker ended without an answer; what it printed stands above")
    return Checked(pickle.loads(b"".join(chunks)), fds[0] if fds else None)  # noqa: S301 - from our own child


def _become_checker(path: Path, generation: int, theirs: socket.socket) -> NoReturn:
    status = EXIT_FAILED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    try:
        setproctitle.setproctitle("nlb: checker")
        rehearsal = rehearse(path)
        answer = pickle.dumps(rehearsal.findings)
        fds = []
        if rehearsal.loaded.config is not None and rehearsal.material is not None:
            config = rehearsal.loaded.config
            fds.append(Snapshot(generation, config, rehearsal.material, Rows.number(config)).seal())
        sent = socket.send_fds(theirs, [answer], fds)
        theirs.sendall(answer[sent:])
        status = 0
    except OSError as error:
        print(f"nlb: the checker: {error}", file=sys.stderr)
    except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _policies(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """What the OpenSSL in use lacks of a policy: the listener serves the rest."""
    for name, listener in config.listeners.items():
        if listener.protocol != "TCPSSL":
            continue
        policy = POLICIES[listener.security_policy]
        for what, missing in (("cipher suite", missing_suites(policy)), ("version", missing_versions(policy))):
            if missing:
                yield loaded.finding(
                    ("listeners", name, "security_policy"),
                    "warning",
                    f"the OpenSSL in use lacks {_several(len(missing), what)} of {policy.name}: {', '.join(missing)}",
                )


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
            yield loaded.finding(key, "error", f"{path} may not be written", "run as the user that nlb runs as")


def _control_socket(loaded: Loaded, path: Path) -> Iterator[Finding]:
    """Its folder is made where only that is missing."""
    key: KeyPath = ("node", "control_socket")
    folder = path.parent if _is_folder(path.parent) else path.parent.parent
    if not _is_folder(folder):
        hint = f"mkdir -p {shlex.quote(str(path.parent))}"
        yield loaded.finding(key, "error", f"there is no folder {path.parent} for {path.name}", hint)
    elif not os.access(folder, os.W_OK):
        hint = 'give it a place that this user can write, as in control_socket = "nlb.sock"'
        yield loaded.finding(key, "error", f"{path} may not be made", hint)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
