"""`nlb server weight`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.server._order import order, order_options


@click.command("weight")
@order_options
@click.argument("weight", metavar="N", type=click.IntRange(0, 100))
def command(server: tuple[str, str], path: Path | None, socket: Path | None, *, weight: int, as_json: bool) -> None:
    """Change the weight of a server, from 0 (no new connections) to 100.

    Reloads keep it, unless they change the weight in the configuration.
    """
    order(server, path, socket, as_json=as_json, do="weight", weight=weight)
