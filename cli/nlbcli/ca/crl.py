"""`nlb ca crl`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.ca.options import naming_options, tell_warning
from nlbcore.pki.words import CRL_DAYS


@click.command("crl")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--days", metavar="N", type=int, help=f"Until the next list is due. [default: {CRL_DAYS} (ca.toml)]")
def command(folder: Path, *, days: int | None) -> None:
    """Write the lists of revoked certificates (CRLs) of the authority in DIR to DIR/ca.crl.

    The file holds a list of each of its two authorities, intermediate and root, so that a listener with the authority's
    chain.crt finds one for both. A list that is overdue makes verifiers refuse every certificate: write it in time.

    Without root.key, which is best kept elsewhere, the root's list stays as it is, and a warning says how long it is
    good; if it is missing or overdue, the intermediate's is written and the command fails. With root.key, --days 365
    makes both good for a year.
    """
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.index import readable

    with naming_options():
        crl = Authority.open(folder).crl(days)
    tell_warning(crl)
    click.echo(f"{crl.path}: list {crl.number}, {crl.revoked} revoked, the next is due {readable(crl.next_update)}")
