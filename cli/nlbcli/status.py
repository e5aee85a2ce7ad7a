"""`nlb status`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli._socket import control_socket, socket_options


@click.command("status")
@socket_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--check",
    is_flag=True,
    help="For monitors: one line; exit 0: all is well, 1: not, 69: none runs.",
)
@click.option(
    "--days",
    metavar="N",
    type=click.FloatRange(min=0),
    default=14,
    show_default=True,
    help="With --check: a certificate that expires within so many days is not well.",
)
@click.pass_context
def command(
    ctx: click.Context, path: Path | None, socket: Path | None, *, as_json: bool, check: bool, days: float
) -> None:
    """Show how a running balancer fares: listeners, servers, certificates, workers.

    With --check only one line is printed. Not well are: a worker or helper process that does not run as it should, a
    server group without a usable server, a certificate that expires soon, an overdue revocation list, a last reload that
    was refused, a balancer that is starting or draining.
    """
    from nlbcore.control.client import call, problems, summary
    from nlbcore.errors import NotRunningError

    shown: dict[str, Any]
    try:
        status = call(control_socket(path, socket), "status")
    except NotRunningError as error:
        if not check:
            raise
        shown = {"ok": False, "problems": [str(error)]}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else f"NOT OK: {error}")
        ctx.exit(error.exit_code)
    found = problems(status, days) if check else []
    if as_json:
        shown = {"ok": not found, "problems": found} if check else status
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif check:
        click.echo(f"NOT OK: {'; '.join(found)}" if found else f"OK: {summary(status)}")
    else:
        from nlbcli._view import console, show

        show(console(), status)
    ctx.exit(1 if found else 0)
