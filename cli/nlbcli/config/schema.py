"""`nlb config schema`"""

from __future__ import annotations

import json

import rich_click as click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the configuration file, for editors that complete and check TOML."""
    from nlbcore.config.render import schema

    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
