"""Figures are written in a unit that suits them, with three digits."""

from __future__ import annotations

import pytest

from nlbbench import words
from nlbbench.trials import Unit


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.SECONDS, 1.2345e-3, "1.23 ms"),
        (Unit.SECONDS, 36.94e-6, "36.9 µs"),
        (Unit.SECONDS, 2.0, "2.00 s"),
        (Unit.SECONDS, 5e-10, "0.500 ns"),
        (Unit.SECONDS, 0.0, "0 ns"),
        (Unit.SECONDS_PER_BYTE, 1.5678e-9, "1.57 s/GB"),
        (Unit.SECONDS_PER_BYTE, 0.85e-9, "0.850 s/GB"),
        (Unit.BYTES, 27_900.0, "27.9 KB"),
        (Unit.BYTES, 512.0, "512 B"),
        (Unit.BYTES, -1500.0, "-1.50 KB"),
        (Unit.PER_SECOND, 2140.4, "2,140 /s"),
        (Unit.BYTES_PER_SECOND, 812e6, "812 MB/s"),
        (Unit.COUNT, 1234.0, "1,234"),
    ],
)
def test_quantity(unit: Unit, value: float, text: str) -> None:
    assert words.quantity(unit, value) == text


def test_a_spread_is_in_the_medians_unit() -> None:
    assert words.spread(Unit.SECONDS, 1.1e-3, 0.9e-3, 2e-3) == "0.900-2.00"
    assert words.spread(Unit.COUNT, 3, 1, 1200) == "1-1,200"


@pytest.mark.parametrize(("value", "text"), [(0.071, "0.07x"), (1.0, "1.00x"), (12.34, "12.3x"), (123.4, "123x")])
def test_ratio(value: float, text: str) -> None:
    assert words.ratio(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (725, "12 min 5 s")])
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text
