"""`nlb config init`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcore.errors import DeniedError, NlbError


@click.command("init")
@click.argument("path", metavar="[FILE]", type=click.Path(path_type=Path, readable=False), default=Path("nlb.toml"))
@click.option("-f", "--force", is_flag=True, help="Overwrite the file if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path, *, force: bool, as_json: bool) -> None:
    """Write a sample configuration with every option and its default, explained.

    FILE is nlb.toml in this folder unless given; `-` prints it.
    """
    from nlbcore.config.render import sample

    if str(path) == "-":
        if as_json:
            raise click.UsageError(
                "--json is about the file that is written; `-` prints the sample itself, which is TOML"
            )
        click.echo(sample(), nl=False)
        return
    try:
        with path.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(sample())
    except FileExistsError:
        raise NlbError(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        kind = DeniedError if isinstance(error, PermissionError) else NlbError
        raise kind(f"cannot write {path}: {(error.strerror or 'failed').lower()}") from None
    if as_json:
        click.echo(json.dumps({"file": str(path)}, ensure_ascii=False))
        return
    click.echo(f"{path} written. Fill in your addresses and certificates, then: nlb check -c {path}")
