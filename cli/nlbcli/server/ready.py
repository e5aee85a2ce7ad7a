"""`nlb server ready`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.server._order import order, order_options


@click.command("ready")
@order_options
def command(server: tuple[str, str], path: Path | None, socket: Path | None, *, as_json: bool) -> None:
    """Put a server back that was taken out: it gets new connections again, if its health check agrees."""
    order(server, path, socket, as_json=as_json, do="ready")
