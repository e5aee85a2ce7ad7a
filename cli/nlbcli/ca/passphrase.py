"""`nlb ca passphrase`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import UsageProblem, asker, opened, passphrase_option, secret_file_option
from nlbcore.pki.words import AUTHORITIES


@click.command("passphrase")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.argument("which", metavar="[WHICH]", type=click.Choice((*AUTHORITIES, "both")), default="both")
@click.option("--remove", is_flag=True, help="Keep the keys under no passphrase.")
@passphrase_option
@secret_file_option("--new-passphrase-file", "The new passphrase")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path,
    *,
    which: str,
    remove: bool,
    passphrase_file: Path | None,
    new_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Change the passphrase of the keys of the authority in DIR, give them one, or remove it: WHICH is intermediate, root or both.

    The old one, if there is one, comes from where every command takes it; see `nlb ca init`. The new one comes from
    --new-passphrase-file, else from the variable NLB_CA_NEW_PASSPHRASE, else from the systemd credential
    `ca-new-passphrase`, else it is asked for, twice. A wrong old one ends with 77.

    The keys themselves stay, and with them all certificates. Both are written anew, or none. A root.key that is kept
    elsewhere is left as it is, and told. Copies of the old files, in backups for example, still open with the old passphrase.
    """
    from nlbcore.pki import store
    from nlbcore.pki.passphrase import NewPassphrase

    if remove and new_passphrase_file is not None:
        raise UsageProblem("--new-passphrase-file: with --remove there is no new passphrase")
    authority = opened(folder, passphrase_file)
    authorities = AUTHORITIES if which == "both" else (which,)
    root_key = folder / store.ROOT_KEY
    if which == "both" and not root_key.exists():
        click.echo(f"nlb: {root_key} is not there: it stays under the passphrase that it has", err=True)
        authorities = ("intermediate",)
    new = NewPassphrase(new_passphrase_file, asker(confirm=True))
    changed = authority.change_passphrase(authorities, None if remove else lambda: new.new(folder))
    if as_json:
        shown = {"changed": [str(path) for path in changed], "key_encrypted": not remove}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for path in changed:
        click.echo(f"{path}: under {'no' if remove else 'the new'} passphrase")
