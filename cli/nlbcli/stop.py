"""`nlb stop`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcli._socket import control_socket, socket_options


@click.command("stop")
@socket_options
@click.option("--now", is_flag=True, help="Cut the connections instead of letting them finish.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path | None, socket: Path | None, *, now: bool, as_json: bool) -> None:
    """Stop a running balancer and wait until it has gone.

    It accepts no more and lets its connections finish, for as long as `drain_timeout` allows. Ctrl-C ends the waiting,
    not the stopping; `nlb stop --now` beside it cuts it short.
    """
    from nlbcore.control.client import stop
    from nlbcore.errors import NlbError

    where = control_socket(path, socket)
    try:
        stop(where, now=now)
    except KeyboardInterrupt:
        raise NlbError("not waited for: it goes on stopping; `nlb stop --now` cuts it short") from None
    if as_json:
        click.echo(json.dumps({"control_socket": str(where), "stopped": True}, ensure_ascii=False))
    else:
        click.echo(f"the balancer at {where} has stopped")
