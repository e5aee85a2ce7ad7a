"""`nlb server maint`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.server._order import order, order_options


@click.command("maint")
@order_options
def command(server: tuple[str, str], path: Path | None, socket: Path | None, *, as_json: bool) -> None:
    """Take a server out at once: no new connections, and its live ones are closed.

    `nlb server drain` lets them finish, `nlb server ready` puts the server back. Reloads keep the order.
    """
    order(server, path, socket, as_json=as_json, do="maint")
