"""`nlb run`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.main import config_option


@click.command("run")
@config_option
@click.pass_context
def command(ctx: click.Context, path: Path) -> None:
    """Run the balancer in the foreground.

    TERM, INT or QUIT stop it: it accepts no more, lets connections finish for `drain_timeout`, and exits with 0.
    A second TERM or INT stops it at once.
    """
    from nlbcore.process.supervisor import run

    ctx.exit(run(path))
