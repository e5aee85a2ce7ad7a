"""The progress bar of a load, with the time that is left; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from nlbbench import spec

REFRESH = 0.1
"""Seconds between pictures: more often would cost the measurement."""


def left(load: spec.Load, now: spec.Progress) -> str:
    """How long it will take, in words; nothing where nobody can know."""
    seconds: float | None = None
    if load.duration is not None:
        seconds = load.duration - now.seconds
    elif now.share and now.seconds:
        seconds = now.seconds / now.share - now.seconds
    return "" if seconds is None else f"{max(0.0, seconds):.0f} s left"


@contextlib.contextmanager
def shown(load: spec.Load, *, quiet: bool = False) -> Iterator[Callable[[spec.Progress], None] | None]:
    """A callback for `run()` that draws; None where nothing is drawn."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]} done{task.fields[failed]}"),
        TextColumn("{task.fields[left]}"),
    )
    # No thread of rich's: the pictures are drawn from the callback.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        bar = progress.add_task("opening", total=1.0, done="0", failed="", left="")
        last = 0.0

        def draw(now: spec.Progress) -> None:
            nonlocal last
            if time.monotonic() - last < REFRESH:
                return
            last = time.monotonic()
            progress.update(
                bar,
                description=now.phase,
                completed=now.share or 0.0,
                done=f"{now.done:,}",
                failed=f", {now.failed:,} failed" if now.failed else "",
                left=left(load, now),
            )
            progress.refresh()

        yield draw
