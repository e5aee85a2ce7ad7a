"""Folders in place of files, in `ca` and `crl`: which files in one count, and which of them have to be good.

Every file counts whose name is not hidden and no editor's backup, in the order of the names; folders below do not. What is
there twice, as `c_rehash` makes it with links, counts once. A folder may be both `ca` and `crl`: what is called `.crl` is not
looked into for certificates, what is called `.crt` or `.cer` not for lists. A file whose name says that it is what is looked
for has to be good; others may hold some, and are told of if they do not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from nlbcore.tls.pem import BadFile, DeniedFile, NothingThere

CERTIFICATES = frozenset({".crt", ".cer"})
LISTS = frozenset({".crl"})
_EITHER = frozenset({".pem", ".der"})


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def files_in(folder: Path, without: frozenset[str] = frozenset()) -> list[Path]:
    """The files that count, in order, without those whose names end so.

    Raises:
        BadFile: the folder may not be read, or there is none in it
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        kind = DeniedFile if isinstance(error, PermissionError) else BadFile
        raise kind(f"this folder cannot be read: {(error.strerror or 'no reason given').lower()}") from None
    found: dict[str, Path] = {}
    for name in names:
        path = folder / name
        if (
            not name.startswith(".")
            and not name.endswith("~")
            and path.suffix.lower() not in without
            and not is_folder(path)
        ):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise BadFile("there is no file in this folder")
    return list(found.values())


def usable_in(
    folder: Path,
    kind: frozenset[str],
    others: frozenset[str],
    read: Callable[[Path], object],
    tell: Callable[[str], None],
) -> list[Path]:
    """The files of a folder that hold what is looked for, or ought to.

    Args:
        folder: where they are
        kind: how the names of such files end
        others: how those end that are not looked into
        read: raises BadFile for a file that cannot be used
        tell: is given a sentence for each that is passed over

    Raises:
        BadFile: the folder may not be read, or no file in it can be used
    """
    good: list[Path] = []
    for file in files_in(folder, others):
        try:
            read(file)
        except BadFile as error:
            if is_foreign(file, error, kind):
                tell(f"{file}: {error}: it is not used")
                continue
        good.append(file)
    if not good:
        raise BadFile("no file in this folder can be used")
    return good


def is_foreign(path: Path, error: BadFile, kind: frozenset[str]) -> bool:
    """Whether a file of a folder that cannot be used is none of `kind`, so that it may be passed over."""
    suffix = path.suffix.lower()
    return suffix not in kind and (isinstance(error, NothingThere) or suffix not in _EITHER)
