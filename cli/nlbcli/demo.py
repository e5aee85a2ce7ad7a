"""`nlb demo`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from nlbcore.errors import EXIT_FAILED


@click.command("demo")
@click.option(
    "--dir",
    "folder",
    metavar="D",
    type=click.Path(path_type=Path, readable=False, file_okay=False),
    help="Folder for all files, kept afterwards. [default: a new one, removed at the end]",
)
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    default=8443,
    show_default=True,
    help="Where the balancer listens, on 127.0.0.1.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Worker processes of the balancer.",
)
@click.option("--once", is_flag=True, help="End after the checks: exit with 0 if all went as shown, else with 1.")
@click.option("-f", "--force", is_flag=True, help="Make the demo anew in the folder of an earlier one.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON.")
@click.pass_context
def command(
    ctx: click.Context, *, folder: Path | None, port: int, workers: int, once: bool, force: bool, as_json: bool
) -> None:
    """Show mutual TLS on this machine: certificates, two servers, the balancer, clients that get in and that do not.

    Everything it makes is in one folder, everything it starts ends with it. It runs until Ctrl-C, with commands to try
    and the access log as it grows.
    """
    from nlbcli._demo import Wishes, play

    if as_json and not once:
        raise click.UsageError("--json is for the checks alone: give --once too")
    checks = play(Wishes(folder, port, workers, once=once, force=force, quiet=as_json))
    good = not any(check.problem for check in checks)
    if as_json:
        shown = {"ok": good, "checks": [check.as_dict() for check in checks]}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    ctx.exit(0 if good else EXIT_FAILED)
