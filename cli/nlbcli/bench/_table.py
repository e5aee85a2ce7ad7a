"""What `nlb bench load` shows: a table with percentiles, the failures in words, how the generator itself was doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nlbbench.histogram import Latency
from nlbbench.spec import Work

if TYPE_CHECKING:
    from nlbbench.spec import Outcome, PopulationOutcome

WIDTH = 110
"""Columns of the table: a narrower terminal breaks its lines, which is better than figures without their digits."""
SHOWN = (50.0, 90.0, 99.0, 99.9, 99.99)


def duration(seconds: float) -> str:
    """A latency with three digits and its unit."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return "0" if seconds == 0 else f"{seconds * 1e9:.0f} ns"


def rate(one: PopulationOutcome) -> str:
    """Exchanges a second, or megabytes for work that is about bytes."""
    if one.population.work is Work.IDLE:
        return ""
    if one.population.work in {Work.DOWNLOAD, Work.UPLOAD, Work.DUPLEX} and one.seconds:
        down, up = one.received / one.seconds / 1e6, one.sent / one.seconds / 1e6
        parts = [f"{down:,.0f} MB/s down" if down >= 1 else "", f"{up:,.0f} MB/s up" if up >= 1 else ""]
        return ", ".join(part for part in parts if part)
    return f"{one.rate:,.0f}/s" if one.rate >= 100 else f"{one.rate:.3g}/s"


def table(outcome: Outcome) -> Table:
    """A row for each population."""
    made = Table(box=None, pad_edge=False)
    made.add_column("")
    for name in ("done", "failed", "rate", *(f"p{percent:g}" for percent in SHOWN), "longest"):
        made.add_column(name, justify="right")
    for one in outcome.populations:
        latency = Latency.read(one.latency)
        failed = Text(f"{one.failures:,}", style="red bold" if one.failures else "")
        made.add_row(
            one.population.name,
            f"{one.done:,}",
            failed,
            rate(one),
            *(duration(latency.percentile(percent)) for percent in SHOWN),
            duration(latency.longest),
        )
    return made


def notes(outcome: Outcome) -> list[Text]:
    """What else is to be said, a line each."""
    lines = []
    for one in outcome.populations:
        kinds = ", ".join(f"{count:,} x {text}" for text, count in one.negotiated.items())
        lines.append(Text(f"{one.population.name}: {kinds or 'no connection'}", style="dim"))
        for failure, count in one.failed.items():
            said = next((sample.text for sample in one.samples if sample.failure is failure), "")
            lines.append(Text(f"{one.population.name}: {count:,} failed, {failure}: {said}", style="red"))
    for mark in outcome.marks:
        ended = f"failed: {mark.error}" if mark.error else f"took {mark.took:.2f} s"
        lines.append(Text(f"at {mark.at:.2f} s: {mark.mark.name}: {ended}", style="red" if mark.error else "dim"))
    own = outcome.generator
    lines.append(
        Text(f"generator: {own.cpu:.2f} s of CPU, busiest process {own.busiest:.0%}, waiting {own.waiting:.0%}", "dim")
    )
    if own.limited:
        lines.append(Text(f"The generator may have been the limit: {own.why}", style="yellow"))
    if outcome.interrupted:
        lines.append(Text(f"Interrupted after {outcome.seconds:.1f} s.", style="yellow"))
    return lines


def show(outcome: Outcome) -> None:
    """Print it."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    console.print(f"{outcome.load.target.address}, {outcome.seconds:.1f} s")
    console.print(table(outcome))
    for line in notes(outcome):
        console.print(line)
