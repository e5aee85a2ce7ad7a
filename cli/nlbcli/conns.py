"""`nlb conns`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli._filters import connections, filter_options, tell_unreadable
from nlbcli._socket import control_socket, socket_options
from nlbcore.errors import EXIT_FAILED


@click.command("conns")
@filter_options
@socket_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one connection a line.")
@click.pass_context
def command(ctx: click.Context, /, path: Path | None, socket: Path | None, *, as_json: bool, **filters: Any) -> None:
    """Show the live connections with the identities of their clients: all, or those that every given filter takes.

    JSON has the keys of the access log, and `state`: hello (nothing was said yet), handshake, connect (to the server),
    relay, flush (the last bytes go out), linger (until the client closes too). An identity is proven only where
    `client_cert_proven` says so.
    """
    with connections(control_socket(path, socket), filters) as found:
        if as_json:
            from nlbcore.observe.connections import as_array

            for piece in as_array(found):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            from nlbcli._view import console, show_connections

            show_connections(console(), found)
        tell_unreadable(found)
        ctx.exit(EXIT_FAILED if found.unreadable else 0)
