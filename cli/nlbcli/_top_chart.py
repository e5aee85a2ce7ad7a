"""The charts of `nlb top`: a number over the last minutes, drawn with block characters. Pure."""

from __future__ import annotations

from collections import deque
from itertools import islice

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LIMIT = 4096
"""Samples that are kept: an hour of seconds."""


class Series:
    """A number as it was seen, sample after sample; None where nobody answered."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float | None]] = deque(maxlen=_LIMIT)
        self._first = 0
        """Which of all samples ever the oldest kept one is: groups keep their borders as the chart moves."""

    def add(self, moment: float, value: float | None) -> None:
        """One more sample, at `moment` (seconds)."""
        if len(self._samples) == _LIMIT:
            self._first += 1
        self._samples.append((moment, value))

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self._samples[-1][1] if self._samples else None

    def columns(self, width: int, span: float) -> list[float | None]:
        """At most `width` values for the last `span` seconds, the highest of each group of samples.

        A young series has a column for each sample, so that it moves from the start; groups double as it grows.
        """
        if not self._samples or width <= 0:
            return []
        since = self._samples[-1][0] - span
        skip = next(number for number, (moment, _) in enumerate(self._samples) if moment >= since)
        size = 1
        while (len(self._samples) - skip + size - 1) // size + 1 > width and size < _LIMIT:
            size *= 2
        groups: dict[int, float | None] = {}
        for number, (_, value) in enumerate(islice(self._samples, skip, None), self._first + skip):
            known = groups.setdefault(number // size, value)
            if value is not None and (known is None or value > known):
                groups[number // size] = value
        return list(groups.values())[-width:]

    def seconds(self, span: float) -> float:
        """How much of the last `span` seconds there is."""
        return min(span, self._samples[-1][0] - self._samples[0][0]) if self._samples else 0.0


def chart(values: list[float | None], width: int, height: int) -> list[str]:
    """Lines from the top down, the newest value at the right; zero is the ground, the highest value the top.

    Zero is a thin line, anything above is thicker, and a missing value is a gap.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    levels = [_level(value, highest, height) for value in values[-width:]] if width > 0 else []
    levels = [0] * (width - len(levels)) + levels
    return ["".join(_BLOCKS[min(8, max(0, level - 8 * row))] for level in levels) for row in range(height - 1, -1, -1)]


def _level(value: float | None, highest: float, height: int) -> int:
    """Eighths of a line."""
    if value is None:
        return 0
    return 1 if value <= 0 else max(2, round(value / highest * height * 8))
