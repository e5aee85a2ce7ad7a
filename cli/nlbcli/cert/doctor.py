"""`nlb cert doctor`"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from nlbcli.cert._paper import (
    EXIT_UNKNOWN,
    PluginCommand,
    Unknown,
    coloured,
    files_argument,
    opener,
    password_file_option,
    tell,
    unknown_on_failure,
)
from nlbcli.main import tell_error

if TYPE_CHECKING:
    from nlbcore.pki.contents import Contents
    from nlbcore.pki.defects import Defect


@click.command("doctor", cls=PluginCommand)
@files_argument
@password_file_option("a PKCS#12 file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], *, password_file: Path | None, as_json: bool) -> None:
    """Find what is wrong with certificates, keys, requests, revocation lists and bundles, made by whatever program.

    FILE may be a folder: then all of its files that hold something of the kind are examined. Each finding says what is
    there, why it matters, and the command that makes it right (DIR is the folder of an authority).

    It looks for what the openssl commands of many a manual leave behind: a name that stands in the common name only, no
    purpose, no basicConstraints, an authority's private key in the file or beside it, lives that are too long, SHA-1, weak
    keys, X.509 version 1, wildcards that are none, keys that everybody may read or that do not match, chains that are
    missing or out of order, and PKCS#12 files that their importers cannot open.

    Ends with 0 if there is nothing but notes, 1 after warnings (it works until something stricter comes), 2 after errors (it
    is refused somewhere, or dangerous); and with 3 for wrong usage, or if a file could not be read and there are no errors in
    the others.
    """
    from nlbcore.pki import doctor, index

    now = index.now()
    loaded, unknown = _load(files, password_file)
    named = {one.path.absolute() for one in loaded}
    paths = [one.path for one in loaded]
    known = [*loaded, *(one for one in doctor.beside(paths) if one.path.absolute() not in named)]
    found = {one.path: _worst_first(doctor.examine(one, known, now)) for one in loaded}
    if as_json:
        shown = [{"file": str(path), "findings": [vars(one) for one in defects]} for path, defects in found.items()]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        for number, (path, defects) in enumerate(found.items()):
            if number:
                tell()
            _tell(str(path), defects)
    worst = max((SEVERITIES[defect.severity] for defects in found.values() for defect in defects), default=0)
    ctx.exit(EXIT_UNKNOWN if unknown and worst < SEVERITIES["error"] else worst)


def _load(files: Iterable[Path], password_file: Path | None) -> tuple[list[Contents], bool]:
    """What can be read of the files and folders, and whether something could not be, which is told."""
    from nlbcore.pki import contents, doctor

    loaded, unknown = [], False
    for file in files:
        try:
            with unknown_on_failure():
                for path in doctor.inside(file) if file.is_dir() else [file]:
                    loaded.append(contents.load(path, opener(path, password_file)))  # noqa: PERF401 - the others stay
        except Unknown as error:
            tell_error(error)
            unknown = True
    return loaded, unknown


SEVERITIES = {"note": 0, "warning": 1, "error": 2}


def _worst_first(defects: Iterable[Defect]) -> list[Defect]:
    return sorted(dict.fromkeys(defects), key=lambda one: -SEVERITIES[one.severity])


def _tell(path: str, defects: Sequence[Defect]) -> None:
    """The findings of a file; a command that makes several right stands once, behind the last."""
    count = f"{len(defects)} finding{'s' if len(defects) > 1 else ''}" if defects else "nothing is wrong with it"
    tell(f"{path}: {count}")
    for number, defect in enumerate(defects):
        whose = "" if defect.subject == path else f"{defect.subject}: "
        tell(f"{whose}{defect.what}", before=f"  {coloured(defect.severity, 8)} ")
        tell(f"           {defect.why}")
        if defect.fix not in {later.fix for later in defects[number + 1 :]}:
            tell(f"           -> {defect.fix}")
