"""`nlb cert csr`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import (
    UsageProblem,
    key_type_option,
    naming_options,
    secret_file_option,
    subject_options,
)
from nlbcli.cert._paper import secret
from nlbcli.cert.options import force_option, names_options, out_option, profile_option, subject_email_option
from nlbcore.pki.words import DEFAULT_KEY_TYPE


class _KeyPassphrase:
    """The passphrase of the key that is read, as `Passphrases`: asked for when it turns out to have one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def of(self, path: Path) -> Iterator[bytes]:
        yield secret(path.name, self._file, "--key-password-file").encode()


@click.command("csr")
@click.argument("name", metavar="NAME")
@profile_option(default="server")
@names_options
@key_type_option(default=None, text="Kind of its key", otherwise=DEFAULT_KEY_TYPE)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="Ask for a certificate for this key, instead of making one.",
)
@secret_file_option("--key-password-file", "The passphrase of the key in --key")
@subject_options
@subject_email_option
@out_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    name: str,
    *,
    profile: str,
    cn: str | None,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    uri: tuple[str, ...],
    email: tuple[str, ...],
    key_type: str | None,
    key_file: Path | None,
    key_password_file: Path | None,
    out: Path,
    force: bool,
    as_json: bool,
    subject_email: str,
    **subject: str,
) -> None:
    """Make a certificate signing request for another authority: NAME.csr and NAME.key, for their owner only.

    This is the way to a purchased certificate: send NAME.csr, keep NAME.key, and name both what comes back (with its chain
    behind it, in one file) and NAME.key in the configuration. `nlb cert sign` signs a request with an authority of ours.
    """
    from nlbcore.pki.issue import Request
    from nlbcore.pki.names import Subject
    from nlbcore.pki.requests import write

    if key_type is not None and key_file is not None:
        raise UsageProblem("--key-type: the key of --key is of a kind already")
    if key_password_file is not None and key_file is None:
        raise UsageProblem("--key-password-file goes with --key: a new key has no passphrase")
    with naming_options(name="NAME", cn="NAME" if cn is None else "--cn"):
        request = Request(name, profile, cn, Subject(**subject, email=subject_email), dns, ip, uri, email, key_type)
        made = write(request, out=out, key_file=key_file, passphrases=_KeyPassphrase(key_password_file), force=force)
    if as_json:
        click.echo(json.dumps(made.as_dict(), indent=2, ensure_ascii=False))
        return
    click.echo(f"{name}: certificate signing request for {made.subject or 'nobody by name'}")
    click.echo(f"  {', '.join(made.sans) or 'no alternative names'}")
    click.echo(f"  {made.request}  the request: send it to the authority")
    click.echo(f"  {made.private_key}  private key: keep it")
