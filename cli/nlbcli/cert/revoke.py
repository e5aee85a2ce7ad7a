"""`nlb cert revoke`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import authority_option, naming_options, tell_warning
from nlbcore.pki.words import REASONS, UNSPECIFIED


@click.command("revoke")
@click.argument("target", metavar="NAME|SERIAL|FILE")
@authority_option
@click.option(
    "--reason",
    metavar="R",
    type=click.Choice(REASONS, case_sensitive=False),
    default=UNSPECIFIED,
    show_default=True,
    help=f"Why (RFC 5280): {', '.join(REASONS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: str, *, folder: Path, reason: str, as_json: bool) -> None:
    """Revoke a certificate and write new lists of revoked certificates to ca.crl in the authority's folder.

    It is meant by its NAME (all certificates of that name), its SERIAL number (hexadecimal) or its FILE. Verifiers know
    when they have read the new ca.crl.

    The authority's root.key need not be there, unless its intermediate itself is meant: the root's list stays as it is
    then, and a warning says how long it is good.
    """
    from nlbcore.pki.authority import Authority
    from nlbcore.pki.index import now, readable

    with naming_options():
        revoked = Authority.open(folder).revoke(target, reason)
    crl = revoked.crl
    tell_warning(crl)
    if as_json:
        entries = [entry.as_dict(now()) for entry in revoked.entries]
        shown = {
            "revoked": entries,
            "crl": {"file": str(crl.path), "number": crl.number, "warning": crl.warning or None},
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for entry in revoked.entries:
        click.echo(f"{entry.name}: {entry.profile} certificate {entry.serial_hex} revoked ({entry.reason})")
    click.echo(f"{crl.path}: list {crl.number}, {crl.revoked} revoked, the next is due {readable(crl.next_update)}")
