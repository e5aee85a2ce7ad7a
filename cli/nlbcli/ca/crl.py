"""`nlb ca crl`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import naming_options, opened, passphrase_option, tell_list, tell_warning
from nlbcore.pki.words import CRL_DAYS


@click.command("crl")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.option("--days", metavar="N", type=int, help=f"Until the next list is due. [default: {CRL_DAYS} (ca.toml)]")
@click.option(
    "--if-older",
    metavar="TIME",
    help="Only if a list is as old as this, for example 1d, or due within it; else say so and do nothing.",
)
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path, *, days: int | None, if_older: str | None, passphrase_file: Path | None, as_json: bool
) -> None:
    """Write the lists of revoked certificates (CRLs) of the authority in DIR to DIR/ca.crl.

    The file holds a list of each of its two authorities, intermediate and root, so that a listener with the authority's
    chain.crt finds one for both; intermediate.crl and root.crl beside it are the same in DER, for distribution points. A list
    that is overdue makes verifiers refuse every certificate: write it in time, or let a timer do it (--if-older 1d).

    Without root.key, which is best kept elsewhere, the root's list stays as it is, and a warning says how long it is
    good; if it is missing or overdue, the intermediate's is written and the command fails. With root.key, --days 365
    makes both good for a year.
    """
    from nlbcore.pki.dates import span

    with naming_options():
        older = None if if_older is None else span(if_older, "if_older")
        crl = opened(folder, passphrase_file).crl(days, if_older=older)
    tell_warning(crl)
    if as_json:
        click.echo(json.dumps(crl.as_dict(), indent=2, ensure_ascii=False))
    else:
        tell_list(crl)
