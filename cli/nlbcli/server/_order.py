"""What the commands of `nlb server` have in common: an order for one server, and the answer to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli._filters import server_name
from nlbcli._socket import control_socket, socket_options


def order_options(function: Any) -> Any:
    """`GROUP/SERVER` and what every such command takes."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        socket_options,
        click.argument("server", metavar="GROUP/SERVER", callback=server_name),
    ):
        function = decorate(function)
    return function


def order(
    server: tuple[str, str], path: Path | None, socket: Path | None, *, as_json: bool, do: str, **arguments: int
) -> None:
    """Give it, and say what holds now."""
    from nlbcore.control.client import call

    group, name = server
    told = {"server_group": group, "server": name, "do": do, **arguments}
    result = call(control_socket(path, socket), "server", told)
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    live = result["connections"]
    connections = f"{live:,} connection{'' if live == 1 else 's'}"
    click.echo(f"{group}/{name}: {result['admin']}, weight {result['weight']}, {connections}")
