"""What each process of the generator does of a load: connections, counts and rates are shared evenly."""

from __future__ import annotations

from typing import Any

from nlbbench.spec import Population, Work

DEPTH = {Work.DOWNLOAD: 2, Work.UPLOAD: 4, Work.DUPLEX: 4}
"""Pieces in flight on a connection that is kept busy; at most RING of plan.pxd."""


def share(total: int, processes: int, number: int) -> int:
    """Of `total` things, how many process `number` gets: evenly, the first ones one more."""
    return total // processes + (number < total % processes)


def plan(one: Population, processes: int, number: int) -> dict[str, Any]:
    """A population's part in process `number`, as `generate` takes it. Their schedules interleave."""
    period = 0.0 if one.rate is None else processes * 1e9 / one.rate
    return {
        "work": list(Work).index(one.work),
        "connections": share(one.connections, processes, number),
        "size": one.message,
        "burst": one.burst,
        "limit": 0 if one.count is None else share(one.count, processes, number),
        "period": period,
        "offset": period * number / processes,
        "depth": DEPTH.get(one.work, 1) if one.rate is None else 1,
        "resumed": one.resumed,
        "beside": one.beside,
    }
