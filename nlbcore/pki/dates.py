"""Dates and spans of time as people type them."""

from __future__ import annotations

import datetime as dt
import re

from nlbcore.pki.errors import BadValue

_SPAN = re.compile(r"([0-9]+)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_SPAN = dt.timedelta(days=36500)
LAST_YEAR = 9998
"""A moment later than this leaves no room for a time zone; RFC 5280 ends with 9999."""


def moment(value: str, field: str) -> dt.datetime:
    """A date, or a date and time, of ISO 8601; UTC unless it says otherwise. A date alone is its first second.

    Args:
        value: for example `2027-01-31`, `2027-01-31T12:00`, `2027-01-31T12:00:00+01:00`
        field: what the caller calls it, for messages

    Raises:
        BadValue: it is none.
    """
    try:
        made = dt.datetime.fromisoformat(value)
    except ValueError:
        raise BadValue(field, value, "is not a date, for example 2027-01-31 or 2027-01-31T12:00Z") from None
    if not 1950 <= made.year <= LAST_YEAR:
        raise BadValue(field, value, f"a certificate has dates from 1950 to {LAST_YEAR}")
    made = made.replace(tzinfo=dt.UTC) if made.tzinfo is None else made.astimezone(dt.UTC)
    return made.replace(microsecond=0)


def span(value: str, field: str) -> dt.timedelta:
    """A span of time: a number with its unit, s, m, h, d or w.

    Raises:
        BadValue: it is none.
    """
    found = _SPAN.fullmatch(value)
    if found is None:
        raise BadValue(field, value, 'is not a span of time: a number with s, m, h, d or w behind it, as in "10d"')
    # Digits without end are no number for timedelta.
    made = None if len(found[1]) > 12 else dt.timedelta(**{_UNITS[found[2]]: int(found[1])})
    if made is None or made > MAX_SPAN:
        raise BadValue(field, value, f"{MAX_SPAN.days} days are the most")
    return made
