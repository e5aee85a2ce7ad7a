"""The sums: from samples to medians with their spread, ratios to the reference, and multiples of the limit.

A ratio is taken within each repetition, in which both were measured within seconds of each other, and the median of those is
shown: a slow minute of the machine is in both. What is shown as spread is the lowest and the highest sample.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nlbbench.floor import Floor
from nlbbench.results import RELAY, Report, Sample
from nlbbench.trials import TRIALS, Metric, Trial, limit


@dataclass(frozen=True)
class Figure:
    """One metric of one peer."""

    median: float
    low: float
    high: float
    count: int
    """Samples."""
    ratio: float | None
    """To the reference; None: it is the reference, or there is none."""
    sure: bool
    """The ratios of all repetitions are on the same side of 1."""
    multiple: float | None
    """Of the limit."""
    limited: bool
    """A rate that says more about the generator."""


@dataclass(frozen=True)
class Failures:
    """What did not end well in a trial of a peer."""

    exchanges: int
    """That did."""
    failed: dict[str, int]
    """Kind -> exchanges that did not."""
    examples: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.failed.values())


class Figures:
    """Everything that tables and charts ask of a report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.floor = lowest_floor(report.floors)
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        for one in report.samples:
            self._samples.setdefault((one.trial, one.peer), []).append(one)

    def trials(self) -> list[Trial]:
        """Those of which there is anything."""
        measured = {trial for trial, peer in self._samples if peer != RELAY}
        return [TRIALS[name] for name in self.report.trials if name in TRIALS and name in measured]

    def figure(self, trial: Trial, metric: Metric, peer: str) -> Figure | None:
        """None: it was not measured."""
        samples = self._samples.get((trial.name, peer), [])
        values = _values(samples, metric.name)
        if not values:
            return None
        ratios = [] if peer == self.report.reference else self._ratios(trial, metric, samples)
        median = statistics.median(values)
        bottom = self.limit(trial, metric)
        return Figure(
            median,
            min(values),
            max(values),
            len(values),
            statistics.median(ratios) if ratios else None,
            all(one < 1 for one in ratios) or all(one > 1 for one in ratios),
            median / bottom if bottom else None,
            metric.higher and 2 * sum(bool(one.limited) for one in samples) > len(samples),
        )

    def limit(self, trial: Trial, metric: Metric) -> float | None:
        """What the figure cannot be better than; None: it has no limit, or that was not measured."""
        relayed = _values(self._samples.get((trial.name, RELAY), []), metric.name)
        return limit(metric, self.floor, min(relayed, default=None))

    def failures(self, trial: Trial, peer: str) -> Failures | None:
        """None: it was not measured."""
        samples = self._samples.get((trial.name, peer), [])
        if not samples:
            return None
        failed: dict[str, int] = {}
        for one in samples:
            for kind, count in one.failed.items():
                failed[kind] = failed.get(kind, 0) + count
        examples = tuple(dict.fromkeys(text for one in samples for text in one.failures))
        return Failures(sum(one.exchanges for one in samples), failed, examples)

    def limited(self) -> str:
        """Why rates say more about the clients or the machine than about the proxies; empty where they do not."""
        found = [one for one in self.report.samples if one.limited and one.peer != RELAY]
        if not found:
            return ""
        reasons = [one.limited for one in found]
        busy = [one.busy for one in found if one.busy is not None]
        shares = f" (busy for {min(busy):.0%} to {max(busy):.0%} of it)" if busy else ""
        return f"those proxies had time left{shares}; {max(reasons, key=reasons.count)}"

    def repetitions(self) -> int:
        """That have been made of anything."""
        return 1 + max((one.repetition for one in self.report.samples), default=-1)

    def unexpected(self) -> int:
        """Failed exchanges where nothing had happened."""
        return sum(
            sum(one.failed.values())
            for one in self.report.samples
            if one.trial in TRIALS and not TRIALS[one.trial].event
        )

    def _ratios(self, trial: Trial, metric: Metric, samples: Sequence[Sample]) -> list[float]:
        """To the reference, in each repetition that has both."""
        base = {
            one.repetition: one.values[metric.name]
            for one in self._samples.get((trial.name, self.report.reference), [])
            if one.values.get(metric.name)
        }
        return [
            one.values[metric.name] / base[one.repetition]
            for one in samples
            if metric.name in one.values and one.repetition in base
        ]


def lowest_floor(floors: Sequence[Floor]) -> Floor | None:
    """Of each part: a limit is what was seen to be possible, and noise only adds to it."""
    if not floors:
        return None
    parts: dict[str, Any] = {
        one.name: min(getattr(floor, one.name) for floor in floors) for one in fields(Floor) if one.name != "library"
    }
    return Floor(library=floors[0].library, **parts)


def _values(samples: Iterable[Sample], metric: str) -> list[float]:
    return [one.values[metric] for one in samples if metric in one.values]
