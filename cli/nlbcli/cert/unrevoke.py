"""`nlb cert unrevoke`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.ca.options import authority_option, opened, passphrase_option
from nlbcli.cert.revoke import tell


@click.command("unrevoke")
@click.argument("target", metavar="NAME|SERIAL|FILE")
@authority_option
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(target: str, *, folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Give back a certificate that is on hold (revoked with --reason certificateHold), and write new lists.

    It is meant by its NAME (all certificates of that name that are on hold), its SERIAL number (hexadecimal) or its FILE.
    What was revoked for another reason stays revoked: issue a new one.
    """
    tell(opened(folder, passphrase_file).release(target), as_json=as_json)
