"""`nlb bench report`"""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click


@click.command("report")
@click.argument("file", type=click.Path(path_type=Path, readable=False, dir_okay=False), required=False)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, readable=False, file_okay=False),
    help="Folder for report.html and report.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and no table.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a report, and nothing else.")
def command(file: Path | None, *, out: Path | None, as_json: bool, schema: bool) -> None:
    """Show the report.json of an earlier comparison again, and draw its page and charts."""
    from nlbbench import results

    if schema:
        click.echo(json.dumps(results.schema(), indent=1))
        return
    if file is None:
        raise click.UsageError("which report? Name its report.json")
    from nlbcli.bench._written import written

    written(results.load(file), out, as_json=as_json)
