"""The authority's folder and its files: whole or not there, for the owner only, and nothing overwritten by accident.

A file is written beside its place under a name of its own (`.NAME.XXXXXXXX.tmp`), flushed to the disk, and then given
its name, so a crash leaves the old file or the new one, and at worst a `.tmp` that nobody reads. Without `replace` the
name is given with link(), which fails if somebody else has taken it meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION
from nlbcore.pki.errors import PkiError

ROOT_CERTIFICATE = "root.crt"
ROOT_KEY = "root.key"
INTERMEDIATE_CERTIFICATE = "intermediate.crt"
INTERMEDIATE_KEY = "intermediate.key"
CHAIN = "chain.crt"
SETTINGS = "ca.toml"
INDEX = "index"
CRL = "ca.crl"

FILES = (
    *(ROOT_CERTIFICATE, ROOT_KEY, INTERMEDIATE_CERTIFICATE, INTERMEDIATE_KEY),
    *(CHAIN, SETTINGS, INDEX, CRL),
)
RESERVED = frozenset(name.partition(".")[0] for name in FILES)
"""What a certificate cannot be called: its files could be the authority's own."""


@dataclass(frozen=True)
class Output:
    """A file to be written; its content, which may be a key, is in no message."""

    path: Path
    data: bytes = field(repr=False)


def failure(verb: str, path: Path, error: OSError) -> PkiError:
    """The operating system's refusal as a sentence: `cannot VERB PATH: ...`."""
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_FAILED
    return PkiError(f"cannot {verb} {path}: {(error.strerror or 'failed').lower()}", code)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise failure("read", path, error) from None


def make_folder(path: Path) -> None:
    """The folder, made with mode 0700 if it is not there; one that is there stays as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise failure("make the folder", path, error) from None


def refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise _taken(path)


@contextlib.contextmanager
def staged(outputs: Sequence[Output], *, replace: bool) -> Iterator[Callable[[], None]]:
    """Write the files under temporary names; the call that is handed out gives them their own, all or none.

    Between the two is the place for what must not happen if the disk is full, and must have happened before anybody
    can see the files.
    """
    temporary: list[Path] = []
    try:
        for output in outputs:
            temporary.append(_stage(output))  # noqa: PERF401 - each is removed if the next cannot be written
        yield lambda: _publish(temporary, [output.path for output in outputs], replace=replace)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def write(outputs: Sequence[Output], *, replace: bool) -> None:
    with staged(outputs, replace=replace) as publish:
        publish()


def flush_folder(folder: Path) -> None:
    """A new name is safe when its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stage(output: Output) -> Path:
    folder, name = output.path.parent, output.path.name
    path: Path | None = None
    try:
        descriptor, made = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)  # mode 0600
        path = Path(made)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(output.data)
            stream.flush()
            os.fsync(descriptor)
    except OSError as error:
        if path is not None:
            path.unlink(missing_ok=True)
        raise failure("write", output.path, error) from None
    return path


def _publish(temporary: Sequence[Path], paths: Sequence[Path], *, replace: bool) -> None:
    done: list[Path] = []
    for source, path in zip(temporary, paths, strict=True):
        try:
            if replace:
                source.replace(path)
            else:
                path.hardlink_to(source)
        except OSError as error:
            if not replace:
                for one in done:
                    one.unlink(missing_ok=True)
            raise _taken(path) if isinstance(error, FileExistsError) else failure("write", path, error) from None
        done.append(path)
    for folder in {path.parent for path in paths}:
        flush_folder(folder)


def _taken(path: Path) -> PkiError:
    return PkiError(f"{path} is there already; --force overwrites it")
