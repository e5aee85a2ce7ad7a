"""Options that the commands of the certificate authority share, and how a bad one is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcore.errors import NlbError
from nlbcore.pki.words import DEFAULT_KEY_TYPE, KEY_TYPES

if TYPE_CHECKING:
    from nlbcore.pki.revoke import Crl

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
        raise UsageProblem(f'{option} "{error.value}": {error.reason}') from None


def tell_warning(crl: Crl) -> None:
    """What the authority's owner has to know about a list that could be written in part; to stderr."""
    if crl.warning:
        click.echo(f"nlb: warning: {crl.warning}", err=True)


def authority_option(function: Any) -> Any:
    """`--ca DIR`: where the authority is."""
    return click.option(
        "--ca",
        "folder",
        metavar="DIR",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder of the authority, made by `nlb ca init`.",
    )(function)


def key_type_option(*, default: str | None, text: str) -> Callable[[Any], Any]:
    """`--key-type TYPE`, with the kinds named behind `text`."""
    return click.option(
        "--key-type",
        metavar="TYPE",
        type=click.Choice(KEY_TYPES),
        default=default,
        show_default=True,
        help=f"{text}: {', '.join(KEY_TYPES)}.{'' if default else f' [default: {DEFAULT_KEY_TYPE} (ca.toml)]'}",
    )


def subject_options(function: Any) -> Any:
    """What a subject says beside its common name."""
    for *names, metavar, text in reversed(_SUBJECT):
        function = click.option(*names, metavar=metavar, default="", help=text)(function)
    return function
