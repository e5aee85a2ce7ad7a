"""What the commands that make a certificate say about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from nlbcore.pki.outcome import Issued


def tell(issued: Issued, *, as_json: bool) -> None:
    """The certificate and its files, for people or as JSON; remarks to stderr."""
    for what in issued.left_out:
        click.echo(f"nlb: left out of the certificate: {what}", err=True)
    if issued.stale_p12 is not None:
        click.echo(
            f"nlb: {issued.stale_p12} still holds the certificate before: `nlb cert p12` makes a new bundle", err=True
        )
    if as_json:
        click.echo(json.dumps(issued.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print(issued)


def _print(issued: Issued) -> None:
    from nlbcore.pki.index import now, readable

    entry = issued.entry
    clamped = ", when its authority ends" if issued.clamped else ""
    late = ", when its authority begins" if issued.late else ""
    click.echo(f"{entry.name}: {entry.profile} certificate {entry.serial_hex}")
    click.echo(f"  {', '.join(entry.sans) or 'no alternative names'}")
    if late or entry.not_before > now():
        click.echo(f"  valid from {readable(entry.not_before)}{late}")
    click.echo(f"  valid until {readable(entry.not_after)}{clamped}")
    click.echo(f"  {issued.certificate}  certificate and intermediate")
    if issued.new_key:
        click.echo(f"  {issued.private_key}  private key")
    if issued.p12 is not None:
        click.echo(f"  {issued.p12}  all of these, under the password")
    if issued.renewed is not None:
        click.echo(f"  follows {issued.renewed.serial_hex}, which is good until {readable(issued.renewed.not_after)}")
