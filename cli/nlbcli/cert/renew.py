"""`nlb cert renew`"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcli.ca.options import (
    UsageProblem,
    authority_option,
    key_type_option,
    naming_options,
    opened,
    passphrase_option,
    term_of,
    term_options,
)
from nlbcli.cert.options import force_option
from nlbcli.cert.told import tell
from nlbcore.errors import EXIT_FAILED
from nlbcore.pki.words import PROFILES

if TYPE_CHECKING:
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.index import Entry


@click.command("renew")
@click.argument("target", metavar="[NAME|SERIAL|FILE]", required=False)
@authority_option
@click.option("--all", "everything", is_flag=True, help="Renew all certificates that end soon; see --before.")
@click.option("--before", metavar="TIME", help="With --all: those that end within this time, for example 10d.")
@click.option(
    "--profile", metavar="PROFILE", type=click.Choice(PROFILES), help="With --all: only server or only client."
)
@click.option("--rekey", is_flag=True, help="Make a new key too; else the certificate is for the key that is there.")
@key_type_option(default=None, text="Kind of the new key", otherwise="that of the old one")
@term_options("as was asked for the old one")
@click.option(
    "--out",
    metavar="DIR2",
    type=click.Path(path_type=Path, readable=False),
    help="Folder for the new files. [default: they replace the old ones]",
)
@click.option(
    "--exec",
    "program",
    metavar="COMMAND",
    help='Run this once when something has been renewed, for example "nlb reload"; without a shell.',
)
@passphrase_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.RichContext,
    /,
    target: str | None,
    *,
    folder: Path,
    everything: bool,
    before: str | None,
    profile: str | None,
    program: str | None,
    passphrase_file: Path | None,
    as_json: bool,
    days: int | None,
    not_before: str | None,
    not_after: str | None,
    **options: Any,
) -> None:
    """Issue a certificate anew, with the same names and purpose: NAME.crt is replaced, and with --rekey NAME.key too.

    It is meant by its NAME (the newest of that name), its SERIAL number (hexadecimal) or its FILE. The old certificate stays
    good until its end: `nlb cert revoke` ends it sooner. Whoever uses the files has to read them again: --exec "nlb reload".
    If that command fails, the certificates have been renewed all the same, and the exit code is 1.

    With --all and --before it is made for a timer: it does what is due, prints a line for each, says nothing if nothing is,
    and goes on after a failure, to exit with 1 at the end. Certificates that have ended or have been revoked are left alone.
    Once the intermediate has been revoked, it says so and exits with 1: nothing that it signs is accepted. What ends with its
    authority cannot end later: that is such a failure too, and `nlb ca renew` ends it.
    """
    if everything == (target is not None):
        raise UsageProblem("which certificate? Give its NAME, SERIAL or FILE, or --all with --before TIME")
    if everything != (before is not None):
        raise UsageProblem("--all needs --before TIME, for example 10d" if everything else "--before goes with --all")
    if profile is not None and not everything:
        raise UsageProblem("--profile goes with --all: a certificate's own does not change")
    if options["key_type"] is not None and not options["rekey"]:
        raise UsageProblem("--key-type goes with --rekey: the key stays as it is otherwise")
    if options["force"] and options["out"] is None:
        raise UsageProblem("--force goes with --out: without it the old files are replaced anyway")
    words = None if program is None else _words(program)
    with naming_options():
        given = (days, not_before, not_after)
        options["term"] = None if given == (None, None, None) else term_of(*given)
        authority = opened(folder, passphrase_file)
        if target is not None:
            tell(authority.renew(target, **options), as_json=as_json)
            renewed, failed = 1, False
        else:
            renewed, failed = _all(authority, _due(authority, before, profile), options, as_json=as_json)
    if words is not None and renewed:
        _run(words)
    if failed:
        ctx.exit(EXIT_FAILED)


def _words(program: str) -> list[str]:
    """The command of --exec, taken apart as a shell would."""
    try:
        words = shlex.split(program)
    except ValueError:
        raise UsageProblem(f"--exec {program}: a quotation mark has no partner") from None
    if not words:
        raise UsageProblem("--exec is empty: name a command")
    if shutil.which(words[0]) is None:  # before anything is renewed
        raise UsageProblem(f"--exec {program}: there is no command {words[0]}")
    return words


def _run(words: list[str]) -> None:
    """Run a command; what it prints goes to stderr, since stdout may be JSON that a program reads."""
    from nlbcore.errors import NlbError

    sys.stdout.flush()
    try:
        code = subprocess.run(words, stdout=sys.stderr, check=False).returncode
    except OSError as error:
        raise NlbError(f"--exec: {words[0]} cannot be run: {(error.strerror or 'no reason given').lower()}") from None
    if code:
        how = f"with {code}" if code > 0 else f"by signal {-code}"
        raise NlbError(f"--exec: {shlex.join(words)} has ended {how}; what has been renewed stays renewed")


def _due(authority: Authority, before: str | None, profile: str | None) -> list[Entry]:
    from nlbcore.pki.dates import span

    assert before is not None
    within = span(before, "before")
    authority.check_live()
    return authority.due(within, PROFILES if profile is None else (profile,))


def _all(authority: Authority, due: list[Entry], options: dict[str, Any], *, as_json: bool) -> tuple[int, bool]:
    """Renew one after the other; how many have been, and whether any could not be."""
    from nlbcore.pki.errors import PkiError

    renewed, failed = [], []
    for entry in due:
        try:
            issued = authority.renew(entry.serial_hex, **options, later=True)
        except PkiError as error:
            click.echo(f"nlb: {entry.name}: {error}", err=True)
            failed.append({"name": entry.name, "serial": entry.serial_hex, "error": str(error)})
            continue
        renewed.append(issued.as_dict())
        if not as_json:
            until = issued.entry.not_after
            click.echo(f"{entry.name}: renewed until {until:%Y-%m-%d %H:%M} UTC, {issued.certificate}")
    if as_json:
        click.echo(json.dumps({"renewed": renewed, "failed": failed}, indent=2, ensure_ascii=False))
    return len(renewed), bool(failed)
