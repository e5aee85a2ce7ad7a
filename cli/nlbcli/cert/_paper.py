"""How the commands that look into files print, and where they get a password from."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli.ca.options import UsageProblem, naming_options, secret_file_option
from nlbcore.errors import NlbError

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red", "critical": "red"}


EXIT_UNKNOWN = 3
"""What monitoring plugins end with when they could not look: 1 and 2 are verdicts there."""


class PluginCommand(click.RichCommand):
    """A command that ends as monitoring plugins do, so that wrong usage cannot be taken for a verdict."""

    exit_codes = (
        (0, "good"),
        (1, "a warning: good now, but not for long, or not for stricter programs"),
        (2, "critical: it is refused, or dangerous"),
        (EXIT_UNKNOWN, "not known: wrong usage, or a file that cannot be read"),
    )
    """For the manual, instead of what other commands end with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.exit_code = EXIT_UNKNOWN  # type: ignore[misc]
            raise


class Unknown(NlbError):  # noqa: N818 - the certificate may be well
    """It could not be found out."""

    exit_code = EXIT_UNKNOWN


@contextlib.contextmanager
def unknown_on_failure() -> Iterator[None]:
    """Whatever goes wrong in here leaves the verdict open."""
    try:
        with naming_options():
            yield
    except NlbError as error:
        raise Unknown(str(error)) from None
    except click.Abort:
        raise Unknown("interrupted") from None


def files_argument(function: Any) -> Any:
    """`FILE...`; `-` is the standard input."""
    return click.argument(
        "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False)
    )(function)


def password_file_option(of: str) -> Callable[[Any], Any]:
    return secret_file_option("--password-file", f"The password of {of}")


key_password_file_option = secret_file_option(
    "--key-password-file", "The passphrase of the key that is read, or the password of a PKCS#12 file that is read,"
)


def secret(what: str, path: Path | None, option: str = "--password-file", *, new: bool = False) -> str:
    """A password from a file or the terminal; it never stands on the command line, where everybody sees it.

    Args:
        what: whose password
        path: the file, or None to ask
        option: how to give the file
        new: ask twice
    """
    from nlbcore.pki.pkcs12 import read_password

    if path is not None:
        return read_password(path)
    if not sys.stdin.isatty():
        raise UsageProblem(f"{what} needs a password, and there is no terminal to ask at: give {option} FILE")
    # To stderr: stdout may be JSON that a program reads.
    given: str = click.prompt(f"Password for {what}", hide_input=True, confirmation_prompt=new, err=True)
    return given


def opener(path: Path, password_file: Path | None) -> Callable[[], str] | None:
    """How the password of a PKCS#12 file that is only looked at is got; None if there is nobody to ask."""
    if password_file is None and not sys.stdin.isatty():
        return None
    return lambda: secret(path.name, password_file)


def tell(text: str = "", before: str = "") -> None:
    """A line, without anything that a terminal obeys but `before`: what stands in a certificate is not ours."""
    click.echo(before + plain(text))


def plain(text: str) -> str:
    """The text with `?` for everything that cannot be printed."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def coloured(word: str, width: int = 0) -> str:
    """The word of a verdict in its colour, if there are to be colours."""
    text = word.ljust(width)
    return (
        text
        if os.environ.get("NO_COLOR")
        else click.style(text, fg=COLOURS.get(word), bold=None if word == "ok" else True)
    )


def tell_table(rows: Iterable[tuple[str, str]], indent: str) -> None:
    """A label and a text a line, the texts below each other."""
    rows = list(rows)
    width = max((len(label) for label, _ in rows), default=0)
    for label, text in rows:
        tell(f"{indent}{label:{width}}  {text}".rstrip())
