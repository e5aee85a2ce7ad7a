"""`nlb ca show`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click


@click.command("show")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, *, as_json: bool) -> None:
    """Show the authority in DIR: its certificates and keys, how many it has issued and revoked, when its list is due."""
    from nlbcore.pki.authority import Authority

    shown = Authority.open(folder).describe()
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for key, value in shown.items():
        if not isinstance(value, dict):
            click.echo(f"{key}: {value}")
            continue
        click.echo(f"{key}:")
        for name, one in value.items():
            for line in [f"{name}: {_text(one)}"] if not isinstance(one, dict) else _lines(name, one):
                click.echo(f"  {line}")


def _lines(name: str, values: dict[str, object]) -> list[str]:
    return [f"{name} ({key}): {_text(value)}" for key, value in values.items()] or [f"{name}: -"]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
