"""The report on a terminal: a table per trial, with spread, ratio and multiple of the limit; plain text in a pipe."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from nlbbench import words
from nlbbench.figures import Figure, Figures
from nlbbench.results import Contestant
from nlbbench.trials import Course, Metric, Trial

BETTER, WORSE = 0.97, 1.03
"""Ratios beyond which a figure is shown as better or worse than the reference's, if all repetitions agree."""


def show(out: Console, figures: Figures) -> None:
    """Print a report."""
    report = figures.report
    out.print(Text(heading(figures), "bold"))
    out.print(Text(where(figures), "dim"))
    out.print(Text(report.tls, "dim"))
    for trial in figures.trials():
        out.print()
        out.print(_trial(figures, trial))
    out.print()
    for line in remarks(figures):
        out.print(Text(line, "yellow"))
    out.print(Text(legend(figures), "dim"))


def heading(figures: Figures) -> str:
    """What it is, how often, how long."""
    report = figures.report
    workers = f"{report.workers} worker{'' if report.workers == 1 else 's'} each"
    rounds = figures.repetitions()
    times = f"{rounds} repetition{'' if rounds == 1 else 's'}, interleaved"
    ended = f", ended by Ctrl-C (of {report.repetitions} repetitions)" if report.interrupted else ""
    return f"nlb bench compare: {workers}, {times}, {words.duration(report.seconds)}{ended}"


def where(figures: Figures) -> str:
    """The machine."""
    one = figures.report.machine
    virtual = ", virtual" if one.virtual else ""
    return (
        f"{one.processor}, {one.cores} core{'' if one.cores == 1 else 's'}{virtual}, {one.memory / 2**30:.0f} GB; "
        f"{one.system}, Linux {one.kernel}; load {one.load:.2f} at the start; {figures.report.started}"
    )


def remarks(figures: Figures) -> list[str]:
    """What the reader must know: who is missing, what failed, which rates are the generator's."""
    report = figures.report
    lines = []
    if report.interrupted:
        lines.append("Ended early: what was measured until then is complete.")
    if report.out_of_time:
        lines.append(
            "The time was over before all repetitions were made: the machine is slow, or busy with other things."
        )
    titles = {one.name: one.title for one in report.peers}
    lines += [
        f"{titles.get(one.name, one.name)}: left out{f' of {one.trial}' if one.trial else ''}: {one.why}"
        for one in report.left_out
    ]
    for trial in figures.trials():
        for peer in report.contestants:
            failures = figures.failures(trial, peer.name)
            if failures is not None and failures.total and trial.course is not Course.EVENT:
                kinds = ", ".join(f"{count} {kind}" for kind, count in failures.failed.items())
                lines.append(
                    f"{peer.title}, {trial.title.lower()}: {failures.total} failed of "
                    f"{failures.total + failures.exchanges} exchanges ({kinds}): {'; '.join(failures.examples)}"
                )
    if figures.limited():
        lines.append(f"Rates marked with ≥ are at least that: {figures.limited()}.")
    return lines


def legend(figures: Figures) -> str:
    """How to read it."""
    parts = [
        "Median (lowest-highest); CPU time is that of all the proxy's processes",
        f"x = ratio to {figures.report.reference}, within each repetition",
    ]
    if figures.floor is not None:
        parts.append(f"of limit = multiple of OpenSSL in memory ({figures.floor.library}) and a plain relay")
    return "; ".join(parts) + "."


def versions(peer: Contestant) -> str:
    """1.2.3, OpenSSL 3.0.1"""
    return ", ".join(part for part in (peer.version, peer.library) if part)


def _trial(figures: Figures, trial: Trial) -> RenderableType:
    report = figures.report
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    for metric in trial.metrics:
        table.add_column(metric.title, justify="left")
    for peer in report.contestants:
        cells = [
            _cell(metric, figure) if (figure := figures.figure(trial, metric, peer.name)) else Text("-", "dim")
            for metric in trial.metrics
        ]
        if any(cell.plain != "-" for cell in cells):
            table.add_row(Text(f"  {peer.title}"), *cells)
    limits = [figures.limit(trial, metric) for metric in trial.metrics]
    if any(limits):
        texts = (
            "" if bottom is None else words.quantity(metric.unit, bottom)
            for metric, bottom in zip(trial.metrics, limits, strict=True)
        )
        table.add_row(Text("  limit", "dim"), *(Text(text, "dim") for text in texts))
    return Group(Text.assemble((trial.title, "bold"), ("  " + trial.what, "dim")), table)


def _cell(metric: Metric, figure: Figure) -> Text:
    cell = Text(("≥ " if figure.limited else "") + words.quantity(metric.unit, figure.median))
    if figure.count > 1:
        cell.append(f" ({words.spread(metric.unit, figure.median, figure.low, figure.high)})", "dim")
    if figure.ratio is not None:
        good = 1 / figure.ratio if metric.higher and figure.ratio else figure.ratio
        style = "" if not figure.sure else "green" if good < BETTER else "red" if good > WORSE else ""
        cell.append(f" {words.ratio(figure.ratio)}", style)
    if figure.multiple is not None:
        cell.append(f", {words.ratio(figure.multiple)} of limit", "dim")
    return cell
