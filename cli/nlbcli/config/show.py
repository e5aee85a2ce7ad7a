"""`nlb config show`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli.main import config_option
from nlbcore.errors import ConfigError


@click.command("show")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of TOML.")
def command(path: Path, *, as_json: bool) -> None:
    """Show the configuration with every default filled in and every path absolute.

    Certificates and private keys appear as paths, never with their content.
    """
    from nlbcore.config.load import load
    from nlbcore.config.render import as_toml, effective

    loaded = load(path)
    if loaded.config is None:
        for finding in loaded.findings:
            click.echo(str(finding), err=True)
        raise ConfigError(f"{path} cannot be used", loaded.findings)
    shown = effective(loaded.config)
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else as_toml(shown).rstrip("\n"))
