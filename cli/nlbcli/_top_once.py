"""One frame of `nlb top` as text, for scripts: two answers an interval apart, so that the rates are right."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nlbcli._top_rates import Frame, frame
from nlbcli._top_tables import header, lines, plain, tables
from nlbcli._top_watch import ask
from nlbcore.control.client import PATIENCE


def once(path: Path, interval: float, out: Console) -> None:
    """Ask twice and print.

    Raises:
        NlbError: no answer
    """
    first = ask(path, PATIENCE)
    time.sleep(interval)
    show(frame(first, ask(path, PATIENCE)), dt.datetime.now(dt.UTC), out)


def show(shown: Frame, now: dt.datetime, out: Console) -> None:
    """Print the frame; tables without rows are left out."""
    for line in header(shown.head, now, out.width):
        _print(out, line)
    for problem in shown.problems:
        _print(out, Text(f"! {plain(problem)}", "bold red"))
    for table in tables(shown):
        if table.rows:
            _print(out, Text())
            _print(out, Text(table.title, "bold"))
            for line in lines(table, out.width):
                _print(out, line)


def _print(out: Console, line: Text) -> None:
    out.print(line, soft_wrap=True)
