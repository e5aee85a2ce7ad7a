"""A Unix listener has one socket for all workers: any of them serves it, and the death or the sleep of one changes nothing."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Visitors, by_slot, end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the socket."""
    return tmp_path / "unix"


@pytest.fixture
def balancer(run: Callable[..., Balancer], backend: Backend, path: Path) -> Balancer:
    """Two workers, one Unix listener."""
    return run(
        {
            "node": {"workers": 2},
            "listeners": {"plain": plain_listener(bind=f"unix:{path}")},
            "server_groups": {"app": server_group(backend)},
        }
    )


def shares(balancer: Balancer) -> list[int]:
    """Open connections of each worker."""
    return [worker["connections"] for worker in balancer.status()["workers"]]


def fill(stack: ExitStack, path: Path, count: int) -> list[PlainClient]:
    """Clients that come all at once."""
    clients = [PlainClient(path) for _ in range(count)]
    for client in clients:
        stack.callback(client.close)
    for client in clients:
        client.ping()
    return clients


def test_both_serve(balancer: Balancer, path: Path) -> None:
    """Of a crowd every worker gets some."""
    with ExitStack() as stack:
        for _ in range(5):
            fill(stack, path, 100)
            if all(shares(balancer)):
                break
        assert all(shares(balancer)), f"of up to 500 open connections: {shares(balancer)}"


@pytest.mark.parametrize("slot", [0, 1])
def test_survives_a_death(balancer: Balancer, path: Path, slot: int) -> None:
    """Clients that come while one of the workers is dead are served at once, and so after."""
    with Visitors(partial(PlainClient, path)) as visitors:
        visitors.wait_since(0)
        moment = end(by_slot(balancer)[slot], signal.SIGKILL)
        visitors.wait_since(moment)
        balancer.wait_event("worker_started", worker=slot)
        visitors.wait_since(time.monotonic())
    visitors.all_served(moment, 2.0)
    wait_until(lambda: shares(balancer) == [0, 0], "all have left")


@pytest.mark.parametrize("slot", [0, 1])
def test_survives_a_sleep(balancer: Balancer, path: Path, slot: int) -> None:
    """A stopped worker must not swallow the wake-ups of the socket that it shares with the other."""
    sleeper = by_slot(balancer)[slot]
    with Visitors(partial(PlainClient, path), threads=4) as visitors:
        visitors.wait_since(0)
        sleeper.send_signal(signal.SIGSTOP)
        moment = time.monotonic() + 0.1
        visitors.wait_since(moment, 30)
        sleeper.send_signal(signal.SIGCONT)
    visitors.all_served(moment, 2.0)


def test_a_draining_one_leaves_its_successor_s_name(
    run: Callable[..., Balancer], balancer: Balancer, backend: Backend, path: Path, tmp_path: Path
) -> None:
    """The name goes when the listeners close, not at the end: by then it may be another balancer's."""
    client = PlainClient(path)
    client.ping()
    balancer.signal(signal.SIGTERM)
    wait_until(lambda: not path.exists(), "the name goes")
    other = tmp_path / "other"
    other.mkdir()
    tables = {
        "node": {"workers": 1},
        "listeners": {"plain": plain_listener(bind=f"unix:{path}")},
        "server_groups": {"app": server_group(backend)},
    }
    with Balancer(other, tables):
        client.ping()
        client.close()
        balancer.wait_exit(0)
        late = PlainClient(path)
        late.ping()
        late.close()
