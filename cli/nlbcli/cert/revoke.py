"""`nlb cert revoke`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcli.ca.options import authority_option, naming_options, opened, passphrase_option, tell_list, tell_warning
from nlbcore.pki.words import REASONS, UNSPECIFIED

if TYPE_CHECKING:
    from nlbcore.pki.outcome import Revoked


class Reason(click.Choice):  # type: ignore[type-arg]
    """The reasons, in whatever case they are typed; click itself would name them all in lower case."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        written = {one.lower(): one for one in self.choices}
        return super().convert(written.get(str(value).lower(), value), param, ctx)


@click.command("revoke")
@click.argument("target", metavar="NAME|SERIAL|FILE")
@authority_option
@click.option(
    "--reason",
    metavar="R",
    type=Reason(REASONS),
    default=UNSPECIFIED,
    show_default=True,
    help=f"Why (RFC 5280): {', '.join(REASONS)}.",
)
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: str, *, folder: Path, reason: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Revoke a certificate and write new lists of revoked certificates to ca.crl in the authority's folder.

    It is meant by its NAME (all certificates of that name), its SERIAL number (hexadecimal) or its FILE. Verifiers know
    when they have read the new ca.crl. Only certificateHold can be taken back (`nlb cert unrevoke`).

    The authority's root.key need not be there, unless its intermediate itself is meant: the root's list stays as it is
    then, and a warning says how long it is good.
    """
    with naming_options():
        revoked = opened(folder, passphrase_file).revoke(target, reason)
    tell(revoked, as_json=as_json)


def tell(revoked: Revoked, *, as_json: bool) -> None:
    """Which certificates have been revoked or given back, and the list that says so."""
    from nlbcore.pki.index import AUTHORITY, now

    tell_warning(revoked.crl)
    if any(entry.profile == AUTHORITY and entry.revoked_at for entry in revoked.entries):
        below = (
            "everything that the revoked intermediate has issued is refused too, by whoever looks at the whole chain"
        )
        click.echo(f"nlb: warning: {below}", err=True)
    if as_json:
        entries = [entry.as_dict(now()) for entry in revoked.entries]
        key = "revoked" if any(entry.revoked_at for entry in revoked.entries) else "unrevoked"
        click.echo(json.dumps({key: entries, "crl": revoked.crl.as_dict()}, indent=2, ensure_ascii=False))
        return
    for entry in revoked.entries:
        good = "is on hold no more, but its issuer has been revoked" if entry.issuer_revoked else "is good again"
        what = f"revoked ({entry.reason})" if entry.revoked_at else good
        click.echo(f"{entry.name}: {entry.profile} certificate {entry.serial_hex} {what}")
    tell_list(revoked.crl)
