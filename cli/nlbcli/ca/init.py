"""`nlb ca init`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from nlbcli.ca.options import key_type_option, naming_options, passphrase_of, passphrase_option, subject_options
from nlbcore.pki.words import DEFAULT_KEY_TYPE, DEFAULT_NAME, INTERMEDIATE_DAYS, ROOT_DAYS

if TYPE_CHECKING:
    from nlbcore.pki.authority import Authority


@click.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--name", metavar="CN", default=DEFAULT_NAME, show_default=True, help="Common name of the root certificate."
)
@key_type_option(default=DEFAULT_KEY_TYPE, text="Kind of both keys")
@click.option("--days", metavar="N", type=int, default=ROOT_DAYS, show_default=True, help="How long the root is valid.")
@click.option(
    "--intermediate-days",
    metavar="N",
    type=int,
    default=INTERMEDIATE_DAYS,
    show_default=True,
    help="How long the intermediate is valid; at most as long as the root.",
)
@subject_options
@click.option("--email", metavar="ADDRESS", default="", help="E-mail address of the subject.")
@click.option(
    "--permit-dns",
    metavar="N",
    multiple=True,
    help="It can certify this host name and all below it, and no others. Repeatable.",
)
@click.option(
    "--permit-ip",
    metavar="NET",
    multiple=True,
    help="It can certify the addresses of this network, for example 10.0.0.0/8, and no others. Repeatable.",
)
@click.option("--encrypt", is_flag=True, help="Keep both keys under a passphrase, which it asks for.")
@passphrase_option
@click.option("-f", "--force", is_flag=True, help="Replace the authority in DIR; what it has issued is worthless then.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path,
    *,
    name: str,
    key_type: str,
    days: int,
    intermediate_days: int,
    permit_dns: tuple[str, ...],
    permit_ip: tuple[str, ...],
    encrypt: bool,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
    **subject: str,
) -> None:
    """Make a certificate authority in DIR: a root, and an intermediate that issues the certificates.

    DIR is made for its owner only, and so is every file in it: root.crt, root.key, intermediate.crt, intermediate.key,
    chain.crt (intermediate and root: what a listener's `ca` names), ca.toml (the defaults for new certificates) and
    index (what has been issued and revoked).

    With --permit-dns or --permit-ip verifiers refuse whatever else the authority might certify (name constraints). If only
    host names are permitted, no address is, and the other way round; URIs and e-mail addresses are not limited.

    With --encrypt, or a --passphrase-file, both keys are kept under a passphrase. The commands that need a key take it from
    --passphrase-file, else from the variable NLB_CA_PASSPHRASE, else from the systemd credential `ca-passphrase`
    (LoadCredential=), else they ask.

    JSON is that of `nlb ca show`.
    """
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.names import Subject

    with naming_options(subject_email="--email"):
        passphrase = None
        if encrypt or passphrase_file is not None:
            Authority.refuse(folder, force=force)  # before it asks
            passphrase = passphrase_of(passphrase_file, new=True).new(folder)
        authority = Authority.create(
            folder,
            name=name,
            subject=Subject(**subject),
            key_type=key_type,
            days=days,
            intermediate_days=intermediate_days,
            permit_dns=permit_dns,
            permit_ip=permit_ip,
            passphrase=passphrase,
            force=force,
        )
    if as_json:
        click.echo(json.dumps(authority.describe(), indent=2, ensure_ascii=False))
        return
    _tell(authority, clamped=intermediate_days > days, encrypted=passphrase is not None)


def _tell(authority: Authority, *, clamped: bool, encrypted: bool) -> None:
    from nlbcore.pki.index import readable

    folder, described = authority.folder, authority.describe()
    click.echo(f"{folder}: a certificate authority")
    click.echo(f"  root          {described['root']['subject']}")
    click.echo(f"                until {readable(authority.root.not_valid_after_utc)}")
    click.echo(f"  intermediate  {described['intermediate']['subject']}")
    end = " (with the root)" if clamped else ""
    click.echo(f"                until {readable(authority.intermediate.not_valid_after_utc)}{end}")
    permitted = described["intermediate"]["permitted"]
    if permitted:
        click.echo(f"  permitted     {', '.join(permitted)}")
    if encrypted:
        click.echo("  keys          under the passphrase: without it nothing can be issued or revoked")
    click.echo(f"  {authority.chain} is what those get who verify its certificates.")
    click.echo(f"  {folder / 'root.key'} belongs to nobody else: who has it can make any certificate.")
