"""`nlb ca renew`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import UsageProblem, naming_options, opened, passphrase_option
from nlbcore.pki.words import AUTHORITIES, INTERMEDIATE_DAYS, ROOT_DAYS


@click.command("renew")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.argument("which", metavar="[WHICH]", type=click.Choice((*AUTHORITIES, "both")), default="intermediate")
@click.option("--days", metavar="N", type=int, help=f"How long the new root is valid. [default: {ROOT_DAYS}]")
@click.option(
    "--intermediate-days",
    metavar="N",
    type=int,
    help=f"How long the new intermediate is valid; at most as long as the root. [default: {INTERMEDIATE_DAYS}]",
)
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path,
    *,
    which: str,
    days: int | None,
    intermediate_days: int | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Renew the certificates of the authority in DIR with the keys that they have: WHICH is intermediate, root or both.

    Name, key and constraints stay, so what has been issued stays good, and chain.crt (new intermediate, new root) takes the
    place of the old one: give it to the balancer and `nlb reload`. It needs root.key, which signs both.

    Who trusts the old root.crt needs the new one before the old one ends; until then both are good. The intermediate never
    outlives the root: near the root's end renew both. The old certificates are kept in DIR/old.
    """
    from nlbcore.pki.index import readable

    if which == "intermediate" and days is not None:
        raise UsageProblem("--days is how long the root is valid, and it is not renewed: give --intermediate-days")
    if which == "root" and intermediate_days is not None:
        raise UsageProblem("--intermediate-days: the intermediate is not renewed; `both` renews it too")
    authority = opened(folder, passphrase_file)
    with naming_options():
        renewed = authority.renew_authority(
            root_days=None if which == "intermediate" else ROOT_DAYS if days is None else days,
            intermediate_days=(
                None if which == "root" else INTERMEDIATE_DAYS if intermediate_days is None else intermediate_days
            ),
        )
    if as_json:
        click.echo(json.dumps(authority.describe(), indent=2, ensure_ascii=False))
        return
    for name, (entry, clamped) in renewed.items():
        end = ", when the root ends" if clamped else ""
        click.echo(f"{folder}/{name}.crt: {entry.subject}, valid until {readable(entry.not_after)}{end}")
    click.echo(f"{authority.chain} is what those get who verify its certificates.")
