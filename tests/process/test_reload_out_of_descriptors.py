"""Workers that have no descriptor left, because of a flood of connections, are told to reload or to say who is connected: they
may refuse it, but not one connection is lost. When the flood is over, it goes well.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.balancer import nlb, open_descriptors, plain_listener
from tests.support.reloading import changed
from tests.support.workers import PlainClient, Talkers, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.balancer import Balancer
    from tests.support.reloading import Tables


@pytest.fixture
def base(tables: Callable[..., Tables]) -> Tables:
    return tables()


@pytest.fixture
def full(run: Callable[..., Balancer], base: Tables) -> Iterator[tuple[Balancer, Callable[[], None]]]:
    """A balancer whose workers have no descriptor left, under clients that talk to both of them all the time; and what ends
    the flood. The same workers live at the end, and so do all connections.
    """
    balancer = run(base)
    workers = balancer.workers()
    limits = [worker.rlimit(psutil.RLIMIT_NOFILE) for worker in workers]

    def end_flood() -> None:
        for worker, limit in zip(workers, limits, strict=True):
            worker.rlimit(psutil.RLIMIT_NOFILE, limit)

    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 3)
        clients = [client for some in held.values() for client in some]
        for worker in workers:
            most = 1 + max(int(one.partition("=")[0]) for one in open_descriptors(worker.pid))
            worker.rlimit(psutil.RLIMIT_NOFILE, (most, limits[0][1]))
        failed = 0
        while failed < 5:  # one may be at the worker that had a gap
            client = PlainClient(balancer.port("plain"))
            stack.callback(client.close)
            try:
                client.ping()
                clients.append(client)
            except (OSError, AssertionError):
                failed += 1
        assert balancer.find_events("accept_failed")
        with Talkers(clients) as talkers:
            yield balancer, end_flood
            talkers.wait_rounds()
        assert not talkers.error
        assert balancer.workers() == workers


@pytest.mark.parametrize("what", ["limit", "listener"])
def test_reload(full: tuple[Balancer, Callable[[], None]], base: Tables, what: str) -> None:
    """Refused, or in force at every worker, if they can do it with what they have; then, with room again, in force."""
    balancer, end_flood = full
    new: dict[str, Any] = {"limit": {"plain": {"cps": 100_000}}, "listener": {"new": plain_listener()}}
    balancer.rewrite(changed(base, **new[what]))
    done = nlb("reload", "--socket", balancer.control_socket)
    assert done.returncode == 0 or "too many open files" in done.stderr.lower(), done.stderr
    end_flood()
    balancer.reload()
    if what == "listener":
        with ExitStack() as stack:
            spread(stack, partial(PlainClient, balancer.port("new")), balancer, 1)


def test_who_is_connected(full: tuple[Balancer, Callable[[], None]]) -> None:
    """`nlb conns` and `nlb kill` are answered, if only after a while and by those that can."""
    balancer, end_flood = full
    moment = time.monotonic()
    assert nlb("conns", "--socket", balancer.control_socket).returncode in (0, 1)
    assert nlb("kill", "999999999", "--socket", balancer.control_socket).returncode == 1
    assert time.monotonic() - moment < 15
    end_flood()
    assert nlb("conns", "--socket", balancer.control_socket).returncode == 0
