"""What each process of the generator does of a load: connections, counts and rates are shared evenly.

Populations that are `beside` others have processes of their own: what they cost the generator must not be in the others'
latencies (a handshake is some 0.4 ms of work, an echo is looked at for 0.01 ms), and their priority is low.
"""

from __future__ import annotations

from typing import Any

from nlbbench.spec import Load, Population, Work

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


def apart(load: Load) -> bool:
    """Are there two kinds of processes, for the populations that are looked at and for those beside them?"""
    return len({one.beside for one in load.populations}) > 1


def processes(load: Load) -> int:
    """How many processes the generator has in all."""
    return load.processes * (2 if apart(load) else 1)


def beside(load: Load, number: int) -> bool:
    """Is process `number` one for the populations beside the others?"""
    return apart(load) and number >= load.processes


def plans(load: Load, number: int) -> list[dict[str, Any]]:
    """What process `number` does of every population; of some of them nothing."""
    made = []
    for one in load.populations:
        part = plan(one, load.processes, number % load.processes)
        if apart(load) and one.beside != beside(load, number):
            part |= {"connections": 0, "limit": 0, "period": 0.0, "offset": 0.0}
        made.append(part)
    return made
