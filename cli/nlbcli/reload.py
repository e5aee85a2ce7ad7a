"""`nlb reload`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli._number import Seconds
from nlbcli._socket import control_socket, socket_options
from nlbcore.errors import EXIT_FAILED, BusyError, NlbError


@click.command("reload")
@socket_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the exit code is the same.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(min=0, min_open=True),
    help="Wait no longer than that for the answer. [default: as long as it takes]",
)
@click.pass_context
def command(
    ctx: click.Context, path: Path | None, socket: Path | None, *, as_json: bool, timeout: float | None
) -> None:
    """Reload configuration, certificates and revocation lists, and wait until that is done.

    The balancer reads the file that it was started with. All of it comes into force or nothing: if anything is wrong,
    every finding is told as by `nlb check`, the generation in force stays, and the exit code is 1. Connections go on as
    they began, but for those whose clients would not be accepted any more.
    """
    from nlbcore.control.client import call

    try:
        result = call(control_socket(path, socket), "reload", timeout=timeout)
    except BusyError as error:
        raise BusyError(f"{error}; a reload that has begun goes on, `nlb status` tells how it ended") from None
    except KeyboardInterrupt:
        raise NlbError("not waited for: the reload goes on, `nlb status` tells how it ended") from None
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        ctx.exit(0 if result["successful"] else EXIT_FAILED)
    _tell(result)


def _tell(result: dict[str, Any]) -> None:
    """Print the result; findings, which may be warnings only, go to stderr."""
    from nlbcore.config.finding import Finding

    for finding in result["findings"]:
        click.echo(str(Finding(**finding)), err=True)
    generation = result["generation"]
    if not result["successful"]:
        raise NlbError(f"reload refused, generation {generation} stays in force: {result['reason']}")
    click.echo(f"generation {generation} is in force")
    for change in result["changes"] or ["nothing has changed"]:
        click.echo(f"  {change}")
    if result["needs_restart"]:
        click.echo(f"only a restart brings into force: {', '.join(result['needs_restart'])}")
    if closed := result["closed"]:
        click.echo(f"{closed:,} live connection{' was' if closed == 1 else 's were'} closed")
