"""`nlb kill`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli._filters import connections, filter_options, tell_unreadable
from nlbcli._socket import control_socket, socket_options
from nlbcore.errors import NlbError


@click.command("kill")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=0, max=2**64 - 1))
@filter_options
@click.option("--all", "everybody", is_flag=True, help="All connections.")
@socket_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    ids: tuple[int, ...],
    path: Path | None,
    socket: Path | None,
    *,
    everybody: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Close live connections at once: by number, or those that every given filter takes.

    ID is `connection` in `nlb conns` and in the log, where the end of such a connection is called `killed`. `nlb conns`
    with the same filters shows first which they are. Exits with 1 if none was closed.
    """
    from nlbcore.control.client import kill

    if [bool(ids), any(value is not None for value in filters.values()), everybody].count(True) != 1:
        raise click.UsageError("Say which connections: either their numbers, or filters, or --all.")
    where = control_socket(path, socket)
    wanted = list(ids)
    if not ids:
        with connections(where, filters) as found:
            wanted = [one["connection"] for one in found]
            tell_unreadable(found)
    killed = kill(where, wanted)
    if as_json:
        click.echo(json.dumps({"killed": killed}))
    elif killed:
        click.echo(f"{killed:,} connection{'' if killed == 1 else 's'} closed")
    if not killed:
        raise NlbError("there is no such connection" if ids else "no connection matches")
