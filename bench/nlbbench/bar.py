"""The progress bar of a comparison, with the time left; on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nlbbench import words
from nlbbench.compare import Now, Watch


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Watch]:
    """What to give to a `Comparison`. The bar is gone afterwards."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[left]:>14}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("starting", total=1.0, left="")

        def watch(now: Now) -> None:
            left = f"{words.duration(max(now.left, 0.0))} left" if now.step is not None else ""
            progress.update(bar, completed=now.share, description=label(now), left=left)

        yield watch


def label(now: Now) -> str:
    """2: storm, haproxy"""
    if now.step is None:
        return "stopping"
    if now.step.trial is None or now.step.candidate is None:
        return f"{now.step.repetition + 1}: OpenSSL in memory"
    return f"{now.step.repetition + 1}: {now.step.trial.name}, {now.step.candidate.name}"
