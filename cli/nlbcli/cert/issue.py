"""`nlb cert issue`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from nlbcli.ca.options import UsageProblem, authority_option, key_type_option, naming_options, subject_options
from nlbcore.pki.words import CLIENT_DAYS, PROFILES, SERVER_DAYS

if TYPE_CHECKING:
    from nlbcore.pki.authority import Issued


@click.command("issue")
@click.argument("name", metavar="NAME")
@authority_option
@click.option(
    "--profile",
    metavar="PROFILE",
    type=click.Choice(PROFILES),
    required=True,
    help="What it may be used for: server or client.",
)
@click.option("--cn", metavar="CN", help="Common name. [default: NAME]")
@click.option("--dns", metavar="N", multiple=True, help="A host name it is valid for; *.N for a wildcard. Repeatable.")
@click.option("--ip", metavar="A", multiple=True, help="An IP address it is valid for. Repeatable.")
@click.option("--uri", metavar="U", multiple=True, help="A URI, for example spiffe://example.com/app. Repeatable.")
@click.option("--email", metavar="E", multiple=True, help="An e-mail address. Repeatable.")
@click.option(
    "--days",
    metavar="N",
    type=int,
    help=f"How long it is valid. [default: server {SERVER_DAYS}, client {CLIENT_DAYS} (ca.toml)]",
)
@key_type_option(default=None, text="Kind of its key")
@subject_options
@click.option(
    "--out",
    metavar="DIR2",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder for the files, made if it is not there. [default: this one]",
)
@click.option("--p12", is_flag=True, help="Write NAME.p12 too, for browsers and keychains; it asks for a password.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The password of NAME.p12 is the first line of this file, instead of asking.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files of that name.")
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
    key_type: str | None,
    out: Path,
    p12: bool,
    password_file: Path | None,
    force: bool,
    as_json: bool,
    **subject: str,
) -> None:
    """Issue a certificate: NAME.crt (the certificate, then the intermediate) and NAME.key, for their owner only.

    Clients look at the alternative names (--dns, --ip, --uri, --email); the common name is added to them if it is such a
    name. A certificate never outlives the authority that has issued it.
    """
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.issue import Request
    from nlbcore.pki.names import Subject

    if password_file is not None and not p12:
        raise UsageProblem("--password-file: the password is that of NAME.p12, and --p12 is not given")
    with naming_options(name="NAME", cn="NAME" if cn is None else "--cn"):
        authority = Authority.open(folder)
        request = Request(name, profile, cn, Subject(**subject), dns, ip, uri, email, days, key_type)
        request.checked()  # before the password is asked for
        password = _password(name, password_file) if p12 else None
        issued = authority.issue(request, out=out, p12_password=password, force=force)
    if as_json:
        click.echo(json.dumps(issued.as_dict(), indent=2, ensure_ascii=False))
    else:
        _tell(issued)


def _password(name: str, path: Path | None) -> str:
    from nlbcore.pki.pkcs12 import read_password

    if path is not None:
        return read_password(path)
    if not sys.stdin.isatty():
        raise UsageProblem("--p12 needs a password, and there is no terminal to ask at: give --password-file FILE")
    # To stderr: stdout may be JSON that a program reads.
    password: str = click.prompt(f"Password for {name}.p12", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _tell(issued: Issued) -> None:
    from nlbcore.pki.index import readable

    entry = issued.entry
    clamped = ", when its authority ends" if issued.clamped else ""
    click.echo(f"{entry.name}: {entry.profile} certificate {entry.serial_hex}")
    click.echo(f"  {', '.join(entry.sans) or 'no alternative names'}")
    click.echo(f"  valid until {readable(entry.not_after)}{clamped}")
    click.echo(f"  {issued.certificate}  certificate and intermediate")
    click.echo(f"  {issued.private_key}  private key")
    if issued.p12 is not None:
        click.echo(f"  {issued.p12}  all of these, under the password")
