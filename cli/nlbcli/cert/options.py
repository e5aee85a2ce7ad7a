"""Options that commands which make certificates share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcore.pki.words import P12_TARGETS, PROFILES


def profile_option(*, required: bool = False, default: str | None = None) -> Callable[[Any], Any]:
    """`--profile PROFILE`"""
    return click.option(
        "--profile",
        metavar="PROFILE",
        type=click.Choice(PROFILES),
        required=required,
        default=default,
        show_default=default is not None,
        help="What it may be used for: server or client.",
    )


def names_options(function: Any) -> Any:
    """The common name and the alternative names."""
    for option in (
        click.option("--email", metavar="E", multiple=True, help="An e-mail address. Repeatable."),
        click.option(
            "--uri", metavar="U", multiple=True, help="A URI, for example spiffe://example.com/app. Repeatable."
        ),
        click.option("--ip", metavar="A", multiple=True, help="An IP address it is valid for. Repeatable."),
        click.option(
            "--dns", metavar="N", multiple=True, help="A host name it is valid for; *.N for a wildcard. Repeatable."
        ),
        click.option("--cn", metavar="CN", help="Common name. [default: NAME]"),
    ):
        function = option(function)
    return function


def subject_email_option(function: Any) -> Any:
    """`--subject-email`: the last field of a subject."""
    return click.option(
        "--subject-email",
        "subject_email",
        metavar="ADDRESS",
        default="",
        help="E-mail address in the subject, for old programs that look there; --email is the place of today.",
    )(function)


def out_option(function: Any) -> Any:
    """`--out DIR2`"""
    return click.option(
        "--out",
        metavar="DIR2",
        type=click.Path(path_type=Path, readable=False),
        default=Path(),
        help="Folder for the files, made if it is not there. [default: this one]",
    )(function)


def force_option(function: Any) -> Any:
    """`--force`"""
    return click.option("-f", "--force", is_flag=True, help="Overwrite files of that name.")(function)


def p12_target_option(file: str) -> Callable[[Any], Any]:
    """`--target TARGET`: who imports the PKCS#12 file."""
    return click.option(
        "--target",
        metavar="TARGET",
        type=click.Choice(P12_TARGETS),
        default=P12_TARGETS[0],
        show_default=True,
        help=f"Who is to import {file}: modern (OpenSSL 3, browsers and keychains of today; AES-256) or legacy (older "
        "Windows, macOS and Android; Triple DES).",
    )
