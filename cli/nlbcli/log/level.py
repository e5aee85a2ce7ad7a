"""`nlb log level`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli._socket import control_socket, socket_options

LEVELS = ("debug", "info", "warning", "error")


@click.command("level")
@click.argument("level", metavar="[debug|info|warning|error]", type=click.Choice(LEVELS), required=False)
@socket_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(level: str | None, path: Path | None, socket: Path | None, *, as_json: bool) -> None:
    """Show the least severe level that is logged, or change it at run time.

    It is about the event log; the access log has no levels.
    """
    from nlbcore.control.client import call

    result = call(control_socket(path, socket), "log", {} if level is None else {"level": level})
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif level is None or result["was"] == result["level"]:
        click.echo(result["level"])
    else:
        click.echo(f"{result['level']} (was {result['was']})")
