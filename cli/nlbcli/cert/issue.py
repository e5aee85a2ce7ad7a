"""`nlb cert issue`"""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import (
    UsageProblem,
    authority_option,
    key_type_option,
    naming_options,
    opened,
    passphrase_option,
    subject_options,
    term_of,
    term_options,
)
from nlbcli.cert.options import force_option, names_options, out_option, profile_option
from nlbcli.cert.told import tell


@click.command("issue")
@click.argument("name", metavar="NAME")
@authority_option
@profile_option(required=True)
@names_options
@term_options
@key_type_option(default=None, text="Kind of its key")
@subject_options
@out_option
@click.option("--p12", is_flag=True, help="Write NAME.p12 too, for browsers and keychains; it asks for a password.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The password of NAME.p12 is the first line of this file, instead of asking.",
)
@passphrase_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    name: str,
    *,
    folder: Path,
    profile: str,
    cn: str | None,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    uri: tuple[str, ...],
    email: tuple[str, ...],
    days: int | None,
    not_before: str | None,
    not_after: str | None,
    key_type: str | None,
    out: Path,
    p12: bool,
    password_file: Path | None,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
    **subject: str,
) -> None:
    """Issue a certificate: NAME.crt (the certificate, then the intermediate) and NAME.key, for their owner only.

    Clients look at the alternative names (--dns, --ip, --uri, --email); the common name is added to them if it is such a
    name. A certificate never outlives the authority that has issued it.
    """
    from nlbcore.pki.issue import Request
    from nlbcore.pki.names import Subject

    if password_file is not None and not p12:
        raise UsageProblem("--password-file: the password is that of NAME.p12, and --p12 is not given")
    with naming_options(name="NAME", cn="NAME" if cn is None else "--cn"):
        authority = opened(folder, passphrase_file)
        term = term_of(days, not_before, not_after)
        request = Request(name, profile, cn, Subject(**subject), dns, ip, uri, email, key_type, term)
        request.checked()  # before the password is asked for
        password = _password(name, password_file) if p12 else None
        issued = authority.issue(request, out=out, p12_password=password, force=force)
    tell(issued, as_json=as_json)


def _password(name: str, path: Path | None) -> str:
    from nlbcore.pki.pkcs12 import read_password

    if path is not None:
        return read_password(path)
    if not sys.stdin.isatty():
        raise UsageProblem("--p12 needs a password, and there is no terminal to ask at: give --password-file FILE")
    # To stderr: stdout may be JSON that a program reads.
    password: str = click.prompt(f"Password for {name}.p12", hide_input=True, confirmation_prompt=True, err=True)
    return password
