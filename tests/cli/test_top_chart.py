"""The charts: what is highest, what is missing, what is nothing, and that old groups do not change as new ones come."""

from __future__ import annotations

from nlbcli._top_chart import Series, chart


def filled(*values: float | None) -> Series:
    series = Series()
    for moment, value in enumerate(values):
        series.add(float(moment), value)
    return series


def test_heights() -> None:
    assert chart([0, 1, 4, 8, None], 7, 1) == ["  ▁▂▄█ "]
    assert chart([8, 4, 16], 3, 2) == ["  █", "█▄█"]
    assert chart([0.001, 1000], 2, 1) == ["▂█"], "little is not nothing"
    assert chart([0, 0], 3, 2) == ["   ", " ▁▁"]
    assert chart([], 3, 1) == ["   "]
    assert chart([1, 2, 3], 0, 2) == ["", ""]


def test_a_young_series_has_a_column_for_each_sample() -> None:
    assert filled(1, None, 3).columns(40, 600) == [1, None, 3]
    assert Series().columns(40, 600) == []
    assert filled(1).columns(0, 600) == []


def test_an_older_one_shows_the_highest_of_each_group() -> None:
    columns = filled(*range(100)).columns(30, 600)
    assert columns == list(range(3, 100, 4))


def test_groups_keep_their_borders_as_the_chart_moves() -> None:
    series = filled(*range(5000))
    before = series.columns(50, 300)
    series.add(5000.0, 5000)
    after = series.columns(50, 300)
    assert set(before[1:-1]) <= set(after)
    assert after[-1] == 5000


def test_the_span() -> None:
    series = filled(*range(100))
    assert series.columns(50, 20) == list(range(79, 100))
    assert (series.seconds(20), series.seconds(600), Series().seconds(600)) == (20, 99, 0)
    assert (series.last, Series().last) == (99, None)
