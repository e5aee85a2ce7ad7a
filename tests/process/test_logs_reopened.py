"""USR1: both logs are opened anew under their names, as logrotate expects it; not one line is lost or written twice."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.balancer import AccessLog
from tests.support.reloading import descriptors, no_more_than
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Visitors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.balancer import Balancer

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]


def test_under_load(run: Run, tables: Tables) -> None:
    """Renamed twice under clients that keep coming: what ended before is in the old file, all is in the three together."""
    balancer = run(tables())
    before = descriptors(balancer)
    pieces = [AccessLog(balancer.folder / f"access.{n}") for n in range(2)]
    ports: set[int] = set()
    lock = threading.Lock()

    def visit() -> PlainClient:
        client = PlainClient(balancer.port("plain"))
        with lock:
            ports.add(client.port)
        return client

    with Visitors(visit) as visitors:
        for piece in pieces:
            visitors.wait_since(0)
            balancer.access.path.rename(piece.path)
            balancer.signal(signal.SIGUSR1)
            wait_until(balancer.access.path.exists, "the access log is there again")
            visitors.wait_since(visitors.visits[-1].start, 20)
    visitors.all_served(0, 5)
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all have left")
    last = AccessLog(balancer.access.path)
    count = len(visitors.visits)
    wait_until(
        lambda: sum(len(one.lines()) for one in (*pieces, last)) >= count,
        lambda: f"{count} lines: {[len(one.lines()) for one in (*pieces, last)]}",
    )
    numbers = [line["connection"] for one in (*pieces, last) for line in one.lines()]
    assert len(numbers) == len(set(numbers)) == count
    assert all(one.lines() for one in (*pieces, last))
    no_more_than(balancer, before)


def test_event_log(run: Run, tables: Tables) -> None:
    """The event log too, also for what the attendants write; one that cannot be opened leaves the old one in use."""
    balancer = run(tables())
    old = balancer.event_log.rename(balancer.folder / "event.1")
    balancer.signal(signal.SIGUSR1)
    balancer.wait_event("logs_reopened")
    assert "logs_reopened" not in old.read_text()
    kept = balancer.access.path.rename(balancer.folder / "access.1")
    balancer.access.path.mkdir()
    balancer.signal(signal.SIGUSR1)
    balancer.wait_event("logs_not_reopened")
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()
    wait_until(partial(AccessLog(kept).find, client_port=client.port), "the line is in the old file")
    balancer.access.path.rmdir()
