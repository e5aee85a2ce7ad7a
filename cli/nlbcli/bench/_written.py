"""Where a report goes: the terminal or a pipe, and a folder."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbbench import output, table
from nlbbench.figures import Figures
from nlbbench.results import Report
from nlbcli._view import console


def written(report: Report, folder: Path | None, *, as_json: bool = False) -> None:
    """Print it as a table or as JSON, and write its files; what was written, and what could not be, goes to standard error."""
    if as_json:
        click.echo(report.to_json(), nl=False)
    else:
        table.show(console(), Figures(report))
    if folder is None:
        return
    for path in output.write(report, folder):
        click.echo(f"wrote {path}", err=True)
    if lacking := output.missing():
        click.echo(f"no page and no charts without {' and '.join(lacking)}: pip install 'nlb[bench]'", err=True)
