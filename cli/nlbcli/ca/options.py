"""Options that the commands of the certificate authority share, and how a bad one is told."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcore.errors import NlbError
from nlbcore.pki.words import CLIENT_DAYS, DEFAULT_KEY_TYPE, KEY_TYPES, SERVER_DAYS

if TYPE_CHECKING:
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.issue import Term
    from nlbcore.pki.lists import Crl
    from nlbcore.pki.passphrase import Passphrase

EXIT_USAGE = 2

_SUBJECT = (
    ("-C", "--country", "country", "CC", "Country of the subject, two letters."),
    ("--state", "state", "TEXT", "State or province of the subject."),
    ("--locality", "locality", "TEXT", "Locality of the subject."),
    ("--organization", "organization", "TEXT", "Organization of the subject."),
    ("--organizational-unit", "organizational_unit", "TEXT", "Organizational unit of the subject."),
)


class UsageProblem(NlbError):  # noqa: N818 - the program is well
    """What was typed cannot be done; one line instead of a page of usage."""

    exit_code = EXIT_USAGE


@contextlib.contextmanager
def naming_options(**arguments: str) -> Iterator[None]:
    """Tell of a bad value by the option it came with; `arguments` are fields that were no option."""
    from nlbcore.pki.errors import BadValue

    try:
        yield
    except BadValue as error:
        option = arguments.get(error.field, f"--{error.field.replace('_', '-')}")
        raise UsageProblem(error.about(option)) from None


def tell_warning(crl: Crl) -> None:
    """What the authority's owner has to know about a list that could be written in part; to stderr."""
    if crl.warning:
        click.echo(f"nlb: warning: {crl.warning}", err=True)


def tell_list(crl: Crl) -> None:
    from nlbcore.pki.index import readable

    young = "" if crl.written else " (not written again: young enough)"
    due = readable(crl.next_update)
    click.echo(f"{crl.path}: list {crl.number}, {crl.revoked} revoked, the next is due {due}{young}")


def secret_file_option(option: str, what: str) -> Callable[[Any], Any]:
    """`OPTION FILE`, where a secret comes from a file: what it is the secret of stands in `what`."""
    return click.option(
        option,
        metavar="FILE",
        type=click.Path(path_type=Path, readable=False),
        help=f"{what} is the first line of this file, instead of asking.",
    )


passphrase_option = secret_file_option("--passphrase-file", "The passphrase of the authority's keys")
"""For every command that needs a key of the authority."""


def passphrase_of(file: Path | None, *, new: bool = False) -> Passphrase:
    """The passphrase of the authority's keys: from the file, the environment, or the terminal if there is one."""
    from nlbcore.pki.passphrase import Passphrase

    return Passphrase(file, asker(confirm=new))


def asker(*, confirm: bool) -> Callable[[str], str] | None:
    """What asks for a passphrase at the terminal, twice to `confirm` it; None where there is none."""

    def ask(question: str) -> str:
        # To stderr: stdout may be JSON that a program reads.
        answer: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
        return answer

    return ask if sys.stdin.isatty() else None


def opened(folder: Path, passphrase_file: Path | None) -> Authority:
    """The authority in the folder, for a command that may need its keys."""
    from nlbcore.pki.authority import Authority

    return Authority.open(folder, passphrase_of(passphrase_file))


def term_options(default: str) -> Callable[[Any], Any]:
    """`--days`, `--not-before`, `--not-after`: how long a certificate is valid; `default` is what holds without them."""
    options = (
        click.option("--not-after", metavar="DATE", help="When it ends, instead of --days."),
        click.option(
            "--not-before",
            metavar="DATE",
            help="When it begins, for example 2027-01-31 or 2027-01-31T12:00Z; UTC unless it says otherwise. [default: now]",
        ),
        click.option("--days", metavar="N", type=int, help=f"How long it is valid. [default: {default}]"),
    )
    return lambda function: reduce(lambda made, option: option(made), options, function)


new_term_options = term_options(f"server {SERVER_DAYS}, client {CLIENT_DAYS} (ca.toml)")
"""The same for a certificate that follows no other."""


def term_of(days: int | None, not_before: str | None, not_after: str | None) -> Term:
    from nlbcore.pki.dates import moment
    from nlbcore.pki.issue import Term

    begin = None if not_before is None else moment(not_before, "not_before")
    return Term(days, begin, None if not_after is None else moment(not_after, "not_after"))


def authority_option(function: Any) -> Any:
    """`--ca DIR`: where the authority is."""
    return click.option(
        "--ca",
        "folder",
        metavar="DIR",
        type=click.Path(path_type=Path, readable=False),
        required=True,
        help="Folder of the authority, made by `nlb ca init`.",
    )(function)


def key_type_option(
    *, default: str | None, text: str, otherwise: str = f"{DEFAULT_KEY_TYPE} (ca.toml)"
) -> Callable[[Any], Any]:
    """`--key-type TYPE`, with the kinds named behind `text`; `otherwise` holds where there is no fixed default."""
    return click.option(
        "--key-type",
        metavar="TYPE",
        type=click.Choice(KEY_TYPES),
        default=default,
        show_default=True,
        help=f"{text}: {', '.join(KEY_TYPES)}.{'' if default else f' [default: {otherwise}]'}",
    )


def subject_options(function: Any) -> Any:
    """What a subject says beside its common name."""
    for *names, metavar, text in reversed(_SUBJECT):
        function = click.option(*names, metavar=metavar, default="", help=text)(function)
    return function
