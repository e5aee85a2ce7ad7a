"""`nlb cert list`"""

from __future__ import annotations

import json
import os
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import authority_option, naming_options
from nlbcore.pki.words import PROFILES

COLOURS = {"valid": "green", "expired": "yellow", "revoked": "red", "issuer revoked": "red"}


@click.command("list")
@authority_option
@click.option(
    "--expiring",
    metavar="TIME",
    help="Only those that end within this time, for example 30d, and have no successor of that name and file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, *, expiring: str | None, as_json: bool) -> None:
    """List the certificates that an authority has issued, oldest first; the first is its own intermediate.

    STATUS is valid, expired, revoked, or `issuer revoked`: the certificate itself is good, but the intermediate that has
    issued it has been revoked, so whoever looks at the whole chain refuses it.

    --expiring lists only what is valid: not what has ended, or has been revoked itself or with its issuer, nor what a newer
    certificate has followed.
    """
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.dates import span
    from nlbcore.pki.index import AUTHORITY, now, readable

    moment = now()
    with naming_options():
        within = None if expiring is None else span(expiring, "expiring")
    authority = Authority.open(folder)
    entries = authority.entries() if within is None else authority.due(within, (AUTHORITY, *PROFILES))
    if as_json:
        click.echo(json.dumps([entry.as_dict(moment) for entry in entries], indent=2, ensure_ascii=False))
        return
    rows = [
        (entry.name, entry.profile, entry.status(moment), readable(entry.not_after), entry.serial_hex)
        for entry in entries
    ]
    heading = ("NAME", "PROFILE", "STATUS", "UNTIL", "SERIAL")
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]
    for row in (heading, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[2] = click.style(cells[2], fg=COLOURS.get(row[2]))
        click.echo("  ".join(cells).rstrip(), color=False if os.environ.get("NO_COLOR") else None)
