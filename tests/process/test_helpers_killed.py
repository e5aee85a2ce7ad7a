"""Log writer and prober die: they are started again, connections notice nothing, and what was to be said is said."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Talkers, end, spread, successor

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 150


@pytest.mark.parametrize("name", ["log_writer", "prober"])
def test_restarted(run: Callable[..., Balancer], tables: Callable[..., dict[str, Any]], name: str) -> None:
    """Killed three times: the log says so with the signal, there is a new one each time, open connections go on."""
    balancer = run(tables())
    process = f"nlb: {name.replace('_', ' ')}"
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        with Talkers([*held[0], *held[1]]) as talkers:
            for _ in range(2):
                mark = len(balancer.events())
                (old,) = balancer.titled(process)
                end(old, signal.SIGKILL)
                balancer.wait_event(f"{name}_died", since=mark, reason="SIGKILL")
                successor(balancer, process, old)
                talkers.wait_rounds()
    assert not talkers.error
    assert all(worker["restarts"] == 0 for worker in balancer.status()["workers"])


def test_no_line_is_lost(run: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> None:
    """The log writer hangs while many connections end, then is killed: the next one finds their lines in the rings."""
    balancer = run(tables())
    (writer,) = balancer.titled("nlb: log writer")
    writer.send_signal(signal.SIGSTOP)
    ports = set()
    for _ in range(LINES):
        client = PlainClient(balancer.port("plain"))
        client.ping()
        ports.add(client.port)
        client.close()
    wait_until(lambda: balancer.status()["connections"] == 0, "all have left")
    end(writer, signal.SIGKILL)
    balancer.access.wait_count(LINES)
    lines = balancer.access.lines()
    assert len(lines) == LINES, "lines are lost or there twice"
    assert {line["client_port"] for line in lines} == ports


def test_the_new_prober_goes_on(run: Callable[..., Balancer]) -> None:
    """Verdicts stand while there is no prober; the next one notices what has changed meanwhile."""
    check = {"enabled": True, "interval": "1s", "connect_timeout": "1s"}
    with Backend() as good, Backend() as bad:
        balancer = run(
            {
                "node": {"workers": 2},
                "listeners": {"plain": plain_listener()},
                "server_groups": {
                    "app": server_group(good.entry(name="good"), bad.entry(name="bad"), health_check=check)
                },
            }
        )

        def states() -> dict[str, str]:
            return {one["name"]: one["state"] for one in balancer.status()["server_groups"][0]["servers"]}

        wait_until(lambda: states() == {"good": "Available", "bad": "Available"}, lambda: f"{states()}", 5)
        bad.close()
        end(balancer.titled("nlb: prober")[0], signal.SIGKILL)
        assert states() == {"good": "Available", "bad": "Available"}
        wait_until(lambda: states() == {"good": "Available", "bad": "Unhealthy"}, lambda: f"{states()}", 6)
        wait_until(lambda: balancer.titled("nlb: prober"), "a new prober")
