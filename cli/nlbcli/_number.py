"""Numbers of the command line that have a unit: what is none is told with the unit that is meant."""

from __future__ import annotations

import rich_click as click


class Seconds(click.FloatRange):
    """A number of seconds, without a unit behind it."""

    name = "number of seconds, as in 10 or 0.5"


class Bytes(click.IntRange):
    """A number of bytes, without a unit behind it."""

    name = "number of bytes, as in 4096"
