"""Percentiles of known values, and the encoded text."""

from __future__ import annotations

import pytest

from nlbbench.histogram import HIGHEST, Latency


def test_percentiles_are_within_three_digits() -> None:
    found = Latency((number * 1000, 1) for number in range(1, 10_001))
    assert found.count == 10_000
    for percent in (50.0, 90.0, 99.0, 99.9, 99.99):
        assert found.percentile(percent) == pytest.approx(percent / 100 * 1e-2, rel=0.001)
    assert found.longest == pytest.approx(1e-2, rel=0.001)
    assert found.shortest == pytest.approx(1e-6, rel=0.001)
    assert found.mean == pytest.approx(5e-3, rel=0.001)
    assert found.beyond(9e-3) == pytest.approx(1000, abs=10)


def test_text_and_back_and_together() -> None:
    first, second = Latency([(1000, 3)]), Latency([(2_000_000, 1), (HIGHEST * 2, 1)])
    assert Latency.read(str(first)).count == 3
    both = Latency.merged([str(first), "", str(second)])
    assert both.count == 5
    assert both.longest == pytest.approx(HIGHEST / 1e9, rel=0.001)


def test_nothing() -> None:
    found = Latency.read("")
    assert (found.count, found.percentile(99), found.longest, found.shortest, found.mean) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("text", ["x", "HISTFAAAA", "AAAA" * 20])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an encoded HdrHistogram"):
        Latency.read(text)
