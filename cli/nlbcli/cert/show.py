"""`nlb cert show`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.cert._paper import files_argument, opener, password_file_option, tell, tell_table
from nlbcli.main import tell_error


@click.command("show")
@files_argument
@password_file_option("a PKCS#12 file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], *, password_file: Path | None, as_json: bool) -> None:
    """Show what is in files: certificates, requests (CSR), revocation lists (CRL), keys and PKCS#12 bundles.

    PEM with as many of them as there are, DER, PKCS#7 and PKCS#12; `-` is the standard input. Of a private key only its kind
    and its public fingerprint are shown, which tells whose it is. A PKCS#12 file is opened with --password-file, or
    asked for at a terminal; without a password only how it is locked is shown.

    Of a request also what it asks for is shown: names, purposes, key usage, whether to be an authority, other extensions.

    Names and fingerprints are in the form that a listener's allow and deny rules take: dns:www.example.com,
    sha256:..., spki-sha256:....

    Exits with 1 if one of the files cannot be read or holds something damaged.
    """
    from nlbcore.errors import NlbError
    from nlbcore.pki import contents, index, inspect

    now = index.now()
    shown, failed = [], False
    for path in files:
        try:
            loaded = contents.load(path, opener(path, password_file))
        except NlbError as error:
            tell_error(error)
            failed = True
            continue
        shown.append(inspect.describe_file(loaded, now))
        failed |= any(part["kind"] == "damaged" for part in shown[-1]["parts"])
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        for number, one in enumerate(shown):
            if number:
                tell()
            tell(f"{one['file']}: {inspect.file_in_words(one)}")
            for part in one["parts"]:
                tell()
                tell(f"  {part['kind']}")
                tell_table(inspect.in_words(part), "    ")
    ctx.exit(1 if failed else 0)
