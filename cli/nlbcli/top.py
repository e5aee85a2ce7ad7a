"""`nlb top`"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import rich_click as click

from nlbcli._number import Seconds
from nlbcli._socket import control_socket, socket_options


@click.command("top")
@socket_options
@click.option(
    "--interval",
    metavar="SECONDS",
    type=Seconds(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds from one question to the next.",
)
@click.option("--once", "single", is_flag=True, help="Print one frame as text and end; it takes one interval.")
@click.pass_context
def command(ctx: click.Context, path: Path | None, socket: Path | None, *, interval: float, single: bool) -> None:
    """Watch a running balancer, live: rates of every listener and server, refusals by reason, certificates, workers.

    Keys: 1 to 5 one table, 0 all, / filter, p pause, + and - interval, ? help, q quit. It goes on while the balancer is
    away, and by itself when it is back. For scripts: --once, or nlb status --json.
    """
    where = control_socket(path, socket)
    if single:
        from nlbcli._top_once import once
        from nlbcli._view import console

        once(where, interval, console())
        return
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("nlb top needs a terminal for input and output; elsewhere: nlb top --once")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise click.UsageError("nlb top needs a terminal that can place text (TERM); elsewhere: nlb top --once")
    from nlbcli._top_app import watch

    ctx.exit(watch(where, interval))
