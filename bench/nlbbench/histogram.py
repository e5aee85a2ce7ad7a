"""The HdrHistogram of latencies: made from counts, merged, encoded, read. Values inside are nanoseconds, outside seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable

LOWEST, HIGHEST, DIGITS = 1, 100_000_000_000, 3
"""1 ns to 100 s, three significant digits; `hist.pxd` lays its counts out in the same way."""
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
"""What a table shows."""


class Latency:
    """A distribution of latencies. `str()` gives the text that an Outcome holds, `Latency.read()` takes it."""

    def __init__(self, values: Iterable[tuple[int, int]] = ()) -> None:
        """From values (ns) with their counts."""
        self._histogram = HdrHistogram(LOWEST, HIGHEST, DIGITS)
        for value, count in values:
            self._histogram.record_value(min(value, HIGHEST), count)

    @classmethod
    def read(cls, text: str) -> Latency:
        """Decode; an empty text is an empty distribution.

        Raises:
            ValueError: it is no encoded histogram
        """
        one = cls()
        if text:
            one._add(text)
        return one

    def _add(self, text: str) -> None:
        try:
            self._histogram.decode_and_add(text)
        except Exception as error:  # noqa: BLE001 - of several libraries, each with its own
            raise ValueError(f"not an encoded HdrHistogram: {error}") from None

    @classmethod
    def merged(cls, texts: Iterable[str]) -> Latency:
        """Of several runs together.

        Raises:
            ValueError: one of them is no encoded histogram
        """
        one = cls()
        for text in texts:
            if text:
                one._add(text)
        return one

    def __str__(self) -> str:
        encoded: bytes = self._histogram.encode()
        return encoded.decode()

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent did not exceed; 0.0 when there are none."""
        return float(self._histogram.get_value_at_percentile(percent)) / 1e9 if self.count else 0.0

    @property
    def longest(self) -> float:
        """Seconds; 0.0 when there are none."""
        return float(self._histogram.get_max_value()) / 1e9 if self.count else 0.0

    @property
    def shortest(self) -> float:
        """Seconds; 0.0 when there are none."""
        return float(self._histogram.get_min_value()) / 1e9 if self.count else 0.0

    @property
    def mean(self) -> float:
        """Seconds; 0.0 when there are none."""
        return float(self._histogram.get_mean_value()) / 1e9 if self.count else 0.0

    def beyond(self, seconds: float) -> int:
        """How many took longer."""
        limit = int(seconds * 1e9)
        return sum(
            item.count_at_value_iterated_to
            for item in self._histogram.get_recorded_iterator()
            if item.value_iterated_to > limit
        )
