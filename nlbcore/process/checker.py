"""The rehearsal: everything that can be known about a configuration without a network and without binding anything.

`nlb check` prints it, `nlb run` obeys it.
"""

from __future__ import annotations

import os
import resource
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nlbcore.config.check import check
from nlbcore.config.finding import Finding, in_order
from nlbcore.config.load import load
from nlbcore.tls.material import Material, load_material
from nlbcore.tls.policy import POLICIES, missing_suites, missing_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.config.finding import KeyPath
    from nlbcore.config.load import Loaded
    from nlbcore.config.model import Config

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
    for name, listener in config.listeners.items():
        several = len(listener.bind) > 1
        for index, endpoint in enumerate(listener.bind):
            if endpoint.path is not None:
                key: KeyPath = ("listeners", name, "bind", *((index,) if several else ()))
                places.append((key, Path(endpoint.path)))
    for key, path in places:
        kept = key[0] == "log" and os.access(path, os.F_OK)  # a log is appended to, a socket is made anew
        if _is_folder(path):
            yield loaded.finding(key, "error", f"{path} is a folder")
        elif not _is_folder(path.parent):
            yield loaded.finding(
                key, "error", f"there is no folder {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}"
            )
        elif not os.access(path if kept else path.parent, os.W_OK):
            yield loaded.finding(key, "error", f"{path} may not be written", "run as the user that nlb runs as")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
