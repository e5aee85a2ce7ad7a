"""The authority's folder and its files: whole or not there, for the owner only, and nothing overwritten by accident.

A file is written beside its place under a name of its own (`.NAME.XXXXXXXX.tmp`), flushed to the disk, and then given
its name, so a crash leaves the old file or the new one, and at worst a `.tmp` that nobody reads. Without `replace` the
name is given with link(), which fails if somebody else has taken it meanwhile; with it, the old file keeps a second
name until all the new ones have theirs.

Several files get their names one after the other. If one cannot have its own, the old files are put back: all or none.
Killed between two names, the first have the new file and the rest the old one or none, so a new key may stand beside
an old certificate. Nothing is lost then: the old files are there as `.NAME.XXXXXXXX.old.tmp`, the new ones that have no
name yet as `.NAME.XXXXXXXX.tmp`, and the same command with --force makes it whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
INTERMEDIATE_CRL = "intermediate.crl"
ROOT_CRL = "root.crl"
LISTS = (CRL, INTERMEDIATE_CRL, ROOT_CRL)
MAX_SIZE = 1 << 20
"""Bytes of a file that is read whole."""
OLD = "old"
"""The folder of an authority's own certificates that have been renewed."""

FILES = (
    *(ROOT_CERTIFICATE, ROOT_KEY, INTERMEDIATE_CERTIFICATE, INTERMEDIATE_KEY),
    *(CHAIN, SETTINGS, INDEX, *LISTS),
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
    """A file that holds a key, a certificate, a request or a secret, none of which is long."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise failure("read", path, error) from None
    if len(data) > MAX_SIZE:
        raise PkiError(f"{path} is larger than {MAX_SIZE >> 20} MB: it is something else")
    return data


def is_file(path: Path) -> bool:
    """Whether it is a file; what cannot be a path at all (too long) is none."""
    try:
        return path.is_file()
    except OSError:
        return False


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


@contextlib.contextmanager
def kept(paths: Sequence[Path]) -> Iterator[Collection[Path]]:
    """Keep the files that are there now, and put them back if the block fails; hands out which these are."""
    old: dict[Path, Path] = {}
    try:
        for path in paths:
            aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old.tmp")
            with contextlib.suppress(FileNotFoundError):
                _keep(path, aside)
                old[path] = aside
        yield old.keys()
    except BaseException:  # an interrupt too
        _put_back(old)
        raise
    for aside in old.values():
        aside.unlink(missing_ok=True)


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
    with kept(paths if replace else ()) as old:
        try:
            for source, path in zip(temporary, paths, strict=True):
                _name(source, path, replace=replace)
                done.append(path)
            for folder in {path.parent for path in paths}:
                flush_folder(folder)
        except BaseException:
            for path in done:
                if path not in old:
                    path.unlink(missing_ok=True)
            raise


def _name(source: Path, path: Path, *, replace: bool) -> None:
    try:
        if replace:
            source.replace(path)
        else:
            path.hardlink_to(source)
    except OSError as error:
        raise _taken(path) if isinstance(error, FileExistsError) else failure("write", path, error) from None


def _keep(path: Path, aside: Path) -> None:
    """A second name for the file, so that its own is never without one; where that is not allowed, another name."""
    try:
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        try:
            os.link(path, aside, follow_symlinks=False)
        except PermissionError:  # somebody else's (fs.protected_hardlinks), or a file system without links
            path.rename(aside)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failure("write", path, error) from None


def _put_back(old: Mapping[Path, Path]) -> None:
    lost = []
    for path, aside in old.items():
        try:
            aside.replace(path)
            aside.unlink(missing_ok=True)  # rename() of a file over itself leaves both names
        except OSError:
            lost.append(f"{aside} is the old {path}")
    if lost:
        raise PkiError(f"cannot put back what was there: {'; '.join(lost)}")


def _taken(path: Path) -> PkiError:
    return PkiError(f"{path} is there already; --force overwrites it")
