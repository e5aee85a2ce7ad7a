"""`nlb server drain`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.server._order import order, order_options


@click.command("drain")
@order_options
def command(server: tuple[str, str], path: Path | None, socket: Path | None, *, as_json: bool) -> None:
    """Give a server no new connections; its live ones may finish.

    They may for as long as `connection_drain_timeout` of its group allows. `nlb status` shows how many are left, and `nlb
    server ready` puts the server back. Reloads keep the order.
    """
    order(server, path, socket, as_json=as_json, do="drain")
