"""The files of a report: `report.json` always, `report.html` and `report.png` where what draws them is installed."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from nlbbench.figures import Figures
from nlbbench.results import Report
from nlbcore.errors import NlbError

NEEDED = ("jinja2", "matplotlib")


def prepare(folder: Path) -> None:
    """See that the folder can be written to, before hours are spent on what is to go there.

    Raises:
        NlbError: it cannot
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NlbError(f"{folder} cannot be written to: {(error.strerror or 'failed').lower()}") from None


def write(report: Report, folder: Path) -> list[Path]:
    """Write the files, each whole or not at all, over those of an earlier report.

    Returns: what was written.

    Raises:
        NlbError: the folder cannot be written to
    """
    prepare(folder)
    data = {"report.json": report.to_json().encode()}
    if not missing():
        from nlbbench import charts, page

        figures = Figures(report)
        data["report.html"] = page.render(figures).encode()
        if charts.panels(figures):
            data["report.png"] = charts.png(figures)
    for name, content in data.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(folder / name)
    return [folder / name for name in data]


def missing() -> list[str]:
    """Packages without which there are no charts."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]
