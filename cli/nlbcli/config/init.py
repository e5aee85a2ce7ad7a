"""`nlb config init`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcore.errors import DeniedError, NlbError


@click.command("init")
@click.argument("path", metavar="[FILE]", type=click.Path(path_type=Path, readable=False), default=Path("nlb.toml"))
@click.option("-f", "--force", is_flag=True, help="Overwrite the file if it is there.")
def command(path: Path, *, force: bool) -> None:
    """Write a sample configuration with every option and its default, explained.

    FILE is nlb.toml in this folder unless given; `-` prints it.
    """
    from nlbcore.config.render import sample

    if str(path) == "-":
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
    click.echo(f"{path} written. Fill in your addresses and certificates, then: nlb check -c {path}")
