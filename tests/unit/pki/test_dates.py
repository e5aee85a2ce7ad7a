"""Dates and spans as people type them, and a sentence for each that is none."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlbcore.pki import dates
from nlbcore.pki.errors import BadValue

EARLIEST, LATEST = (dt.datetime(year, 1, 1) for year in (1951, 9997))  # noqa: DTZ001 - hypothesis adds the zones


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2027-01-31", (2027, 1, 31)),
        ("2027-01-31T12:00", (2027, 1, 31, 12)),
        ("2027-01-31 12:00:05Z", (2027, 1, 31, 12, 0, 5)),
        ("2027-01-31T12:00:00+02:00", (2027, 1, 31, 10)),
        ("2027-01-31T12:00:00.75", (2027, 1, 31, 12)),
        ("20270131", (2027, 1, 31)),
    ],
)
def test_moment(text: str, parts: tuple[int, ...]) -> None:
    assert dates.moment(text, "not_after") == dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]


@settings(deadline=None)
@given(st.datetimes(EARLIEST, LATEST, timezones=st.timezones()))
def test_every_moment_comes_back(moment: dt.datetime) -> None:
    # Two of a clock that is put back are one text; nobody types the other.
    moment = moment.replace(microsecond=0, fold=0)
    assert dates.moment(moment.isoformat(), "not_after") == moment.astimezone(dt.UTC)


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "31.01.2027", "2027-02-30", "2027-01-31T25:00", "1949-12-31", "9999-12-31"]
)
def test_no_moment(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        dates.moment(text, "not_after")
    assert str(caught.value).startswith(f'not_after "{text}"')


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0s", dt.timedelta()),
        ("90s", dt.timedelta(seconds=90)),
        ("30m", dt.timedelta(minutes=30)),
        ("12h", dt.timedelta(hours=12)),
        ("10d", dt.timedelta(days=10)),
        ("2w", dt.timedelta(weeks=2)),
    ],
)
def test_span(text: str, span: dt.timedelta) -> None:
    assert dates.span(text, "before") == span


@pytest.mark.parametrize("text", ["", "10", "d", "-1d", "1.5d", "10 d", "10y", "36501d", "9" * 400 + "d", "١d"])
def test_no_span(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        dates.span(text, "before")
    assert str(caught.value).startswith(f'before "{text}"')
