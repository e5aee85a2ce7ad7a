"""A start that cannot succeed ends with its reason and 1, leaves no process behind, and the ports free."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, title
from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

    from tests.support.backends import Backend


ADDRESSES = 8193
"""Two workers would have more sockets than one can watch (16,384), on one port of the loopback network."""


@pytest.fixture
def launched() -> Iterator[list[Balancer]]:
    """Balancers to end whatever happens."""
    made: list[Balancer] = []
    yield made
    for balancer in made:
        balancer.kill()


def ended(balancer: Balancer) -> str:
    """Wait for the end with 1; nothing is left. What it said."""
    balancer.expected_stderr = lambda text: "Traceback" not in text
    balancer.wait_exit(1)
    assert not balancer.control_socket.exists()
    return balancer.stderr()


def test_more_sockets_than_a_worker_can_watch(tmp_path: Path, backend: Backend, launched: list[Balancer]) -> None:
    """Any worker may have to serve every slot; what it could not is refused with figures, before anything is bound."""
    port = free_port()
    hosts = itertools.islice((f"127.1.{a}.{b}" for a in range(250) for b in range(1, 250)), ADDRESSES)
    balancer = Balancer(
        tmp_path,
        {
            "node": {"workers": 2},
            "listeners": {"plain": plain_listener(bind=[f"{host}:{port}" for host in hosts])},
            "server_groups": {"app": server_group(backend)},
        },
    ).launch()
    launched.append(balancer)
    said = ended(balancer)
    assert "8193 addresses for 2 workers are 16386 listening sockets, more than 16384" in said


def launch_and_kill(balancer: Balancer, victims: Callable[[], list[psutil.Process]]) -> None:
    """Start, and kill a process before all are ready. On a busy machine that may come too late: then once more."""
    for _ in range(5):
        balancer.launch()
        while not (found := victims()):  # at once: the pauses of wait_until() are longer than a start takes
            assert balancer.exit_code is None, "it ended before there was a process to kill"
        found[0].send_signal(signal.SIGKILL)
        wait_until(lambda: balancer.exit_code is not None or balancer.find_events("ready"), "the end, or too late")
        if balancer.exit_code is not None:
            return
        balancer.kill()
        balancer.event_log.unlink()
    raise AssertionError("the start is too fast, or goes on without its processes")


def test_worker_that_dies(tmp_path: Path, tables: Callable[..., dict[str, Any]], launched: list[Balancer]) -> None:
    """A worker that dies before all serve is not started again: the start fails, and says of what. The next one works."""
    balancer = Balancer(tmp_path, tables())
    launched.append(balancer)
    launch_and_kill(balancer, balancer.workers)
    assert "ended at start: SIGKILL" in ended(balancer)
    assert refused(balancer.port())
    assert refused(balancer.port("plain"))
    balancer.expected_stderr = lambda text: text == ""
    with balancer:
        client = PlainClient(balancer.port("plain"))
        client.ping()
        client.close()


def test_too_few_descriptors(tmp_path: Path, tables: Callable[..., dict[str, Any]], launched: list[Balancer]) -> None:
    """Whatever cannot be opened any more, here or in a child: it ends with a message and 1, not with a traceback."""
    bad = {}
    for limit in (9, 12, 17, 22):
        folder = tmp_path / str(limit)
        folder.mkdir()
        balancer = Balancer(folder, tables(), prefix=(need("prlimit"), f"--nofile={limit}")).launch()
        launched.append(balancer)
        balancer.expected_stderr = lambda _text: True
        balancer.wait_exit(1)
        said = balancer.stderr()
        if "Traceback" in said or "too many open files" not in said.lower():
            bad[limit] = said.splitlines()[-1:]
    assert not bad


@pytest.mark.parametrize("name", ["log writer", "prober"])
def test_helper_that_dies(
    tmp_path: Path, tables: Callable[..., dict[str, Any]], launched: list[Balancer], name: str
) -> None:
    """The same for log writer and prober: without them there is no start."""
    module = f"nlbcore.process.{name.replace(' ', '')}"  # it has no title yet
    balancer = Balancer(tmp_path, tables())
    launched.append(balancer)
    launch_and_kill(balancer, lambda: [one for one in balancer.processes() if module in title(one).split()])
    assert f"the {name} did not start" in ended(balancer)
