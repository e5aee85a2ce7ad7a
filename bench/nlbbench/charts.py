"""The charts of a report: a panel per figure that counts, as SVG for the page and all of them together as PNG.

Drawn with matplotlib, which is an extra (`pip install 'nlb[bench]'`). Identity is told by the label beside the bar, so colour
has one thing to say: nlb's bars stand out. A bar is the median, the whisker lowest and highest sample, the dashed line the
limit. In the SVG colours and fonts are those of the page, also in the dark.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from nlbbench import words
from nlbbench.figures import Figures
from nlbbench.table import heading, where
from nlbbench.trials import Course, Metric, Trial

INK, MUTED, GRID, LIMIT, PAPER = "#1b2530", "#66727f", "#e4e9ee", "#c2760c", "#ffffff"
OURS, OURS_TOO, THEIRS = "#0b7d73", "#58b3a9", "#aeb9c5"
# The page gives these colours other values in the dark; the names are those of its style sheet.
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    LIMIT: "var(--limit)",
    PAPER: "var(--card)",
    OURS: "var(--ours)",
    OURS_TOO: "var(--ours-too)",
    THEIRS: "var(--theirs)",
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "path.simplify": True,
}
WIDTH = 4.6
"""Inches of a panel."""
ROW = 0.33
"""Inches of a peer's row."""


@dataclass(frozen=True)
class Panel:
    """One chart."""

    trial: Trial
    metric: Metric
    second: Metric | None = None
    """Drawn as the other end of a line, for median and tail."""

    @property
    def key(self) -> str:
        return f"{self.trial.name}-{self.metric.name}"

    @property
    def title(self) -> str:
        if self.second is not None:
            return f"{self.metric.title} and {self.second.title}"
        return self.metric.title


def panels(figures: Figures) -> list[Panel]:
    """Those that have something to show."""
    found = []
    for trial in figures.trials():
        if trial.course is Course.EVENT:
            continue
        names = {metric.name: metric for metric in trial.metrics}
        if trial.name == "storm":
            wanted = [Panel(trial, names["p50"], names["p99"])]
        elif trial.course is Course.IDLE:
            wanted = [Panel(trial, metric) for metric in trial.metrics]
        else:
            wanted = [Panel(trial, trial.metrics[0])]
        found += [one for one in wanted if _rows(figures, one)]
    return found


def svg(figures: Figures, panel: Panel) -> str:
    """The panel as an element for an HTML page."""
    with mpl.rc_context(_on_the_page(panel)):
        canvas = Canvas(figsize=(WIDTH, _height(figures, panel)), layout="constrained")
        _draw(canvas.add_subplot(), figures, panel)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(text.getvalue(), f"{panel.trial.title}: {panel.title}")


def png(figures: Figures) -> bytes:
    """All panels on one sheet."""
    chosen = panels(figures)
    if not chosen:
        raise ValueError("the report has no figure that could be drawn")
    columns = min(3, len(chosen))
    lines = [chosen[first : first + columns] for first in range(0, len(chosen), columns)]
    heights = [max(_height(figures, one) for one in line) + 0.5 for line in lines]
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH * columns, sum(heights) + 1.1), layout="constrained", dpi=110)
        canvas.suptitle(
            f"{heading(figures)}\n{where(figures)}\n{_key(figures)}",
            x=0.01,
            ha="left",
            fontsize=10,
            color=MUTED,
            linespacing=1.6,
        )
        grid = canvas.add_gridspec(len(lines), columns, height_ratios=heights)
        for row, line in enumerate(lines):
            for column, panel in enumerate(line):
                axes = canvas.add_subplot(grid[row, column])
                _draw(axes, figures, panel)
                axes.set_title(f"{panel.trial.title}\n", loc="left", fontsize=10.5, fontweight="bold", color=INK)
                axes.text(0, 1.03, panel.title, transform=axes.transAxes, color=MUTED, fontsize=8.5)
        data = io.BytesIO()
        canvas.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _key(figures: Figures) -> str:
    """How the picture is read."""
    parts = ["bar: median, the less the better", "line: lowest and highest sample"]
    if figures.floor is not None:
        parts.append("dashed: limit, OpenSSL in memory and a plain relay")
    return "; ".join([*parts, f"x: ratio to {figures.report.reference}"])


def _on_the_page(panel: Panel) -> Any:
    """The style of an element of a page: on the page's ground, its names its own."""
    return {**STYLE, "svg.hashsalt": panel.key, "figure.facecolor": "none", "axes.facecolor": "none"}


# ---------------------------------------------------------------- drawing


def _rows(figures: Figures, panel: Panel) -> list[tuple[str, str, str]]:
    """Name, label and colour of every peer with such a figure, in the order of the report."""
    rows = []
    ours = 0
    for peer in figures.report.contestants:
        if figures.figure(panel.trial, panel.metric, peer.name) is None:
            continue
        colour = THEIRS
        if peer.kind == "nlb":
            colour = OURS_TOO if ours else OURS
            ours += 1
        rows.append((peer.name, peer.title, colour))
    return rows


def _height(figures: Figures, panel: Panel) -> float:
    return 0.55 + ROW * len(_rows(figures, panel))


def _draw(axes: Axes, figures: Figures, panel: Panel) -> None:
    rows = _rows(figures, panel)
    places = list(range(len(rows)))[::-1]
    (_dumbbells if panel.second is not None else _bars)(axes, figures, panel, rows)
    axes.set_yticks(places, [label for _, label, _ in rows])
    for tick, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if colour != THEIRS else "normal")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(which="both", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _bars(axes: Axes, figures: Figures, panel: Panel, rows: list[tuple[str, str, str]]) -> None:
    found = [figures.figure(panel.trial, panel.metric, name) for name, _, _ in rows]
    shown = [one for one in found if one is not None]
    unit = panel.metric.unit
    step, name = words.scale(unit, max(one.median for one in shown))
    most = max(one.high for one in shown) / step
    for place, (one, (_, _, colour)) in enumerate(zip(reversed(shown), reversed(rows), strict=True)):
        middle, low, high = one.median / step, one.low / step, one.high / step
        axes.barh(place, middle, height=0.62, color=colour, linewidth=0)
        if one.count > 1:
            axes.plot([low, high], [place, place], color=INK, linewidth=1.1, solid_capstyle="butt")
        text = words.number(middle)
        if one.ratio is not None:
            text += f"\N{EM SPACE}{words.ratio(one.ratio)}"
        ground = {"facecolor": PAPER, "linewidth": 0, "pad": 1.0}
        axes.text(max(high, middle) + most * 0.02, place, text, va="center", fontsize=8.5, color=INK, bbox=ground)
    axes.set_xlim(0, most * 1.32)
    bottom = figures.limit(panel.trial, panel.metric)
    if bottom is not None:
        axes.axvline(bottom / step, color=LIMIT, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.set_xlabel(name, loc="left", fontsize=8)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _dumbbells(axes: Axes, figures: Figures, panel: Panel, rows: list[tuple[str, str, str]]) -> None:
    """Median and tail as the two ends of a line, on a logarithmic scale."""
    assert panel.second is not None
    ends = []
    for place, (name, _, colour) in enumerate(reversed(rows)):
        first = figures.figure(panel.trial, panel.metric, name)
        last = figures.figure(panel.trial, panel.second, name)
        if first is None or last is None:
            continue
        middle, tail = first.median * 1e3, last.median * 1e3
        ends += [middle, tail]
        axes.plot([middle, tail], [place, place], color=colour, linewidth=3.2, solid_capstyle="round")
        axes.plot([middle], [place], "o", color=colour, markersize=8)
        axes.plot([tail], [place], "o", color=colour, markersize=8, markerfacecolor=PAPER, markeredgewidth=2)
        text = f"{words.number(middle)} · {words.number(tail)}"
        axes.annotate(text, (tail, place), (9, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(ends) / 1.6, max(ends) * 4.0)
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _place: words.number(value)))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.set_xlabel("ms, logarithmic", loc="left", fontsize=8)


def _for_page(text: str, label: str) -> str:
    """Without prologue, sizes and fonts of its own; colours by the page's names."""
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{label}"', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: (?P<size>(?:\d+ )?[\d.]+px) [^;\"]*", _font, text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r">\s+<", "><", text).strip()


def _font(match: re.Match[str]) -> str:
    """`font: 700 9px 'DejaVu Sans'` without the family, which a shorthand cannot leave out."""
    *weight, size = match["size"].split()
    return f"font-size: {size}" + (f"; font-weight: {weight[0]}" if weight else "")
