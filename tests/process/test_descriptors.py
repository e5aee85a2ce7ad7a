"""What each process has open: no more than it needs, and no more after twenty restarts than before.

Read from /proc: descriptors by what they lead to, sockets by their inodes, which tell whose they are.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.balancer import Balancer, open_descriptors, title
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Visitors, by_slot, end, inodes, successor

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 7
ROUNDS = 3
SEQPACKET, LISTENING = "0005", "00010000"


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> Balancer:
    """Many workers, so that many restarts need no long delays."""
    balancer = balancer_for(tables(workers=WORKERS))
    balancer.restarts_expected = True
    return balancer


def kinds(process: psutil.Process, folder: Path) -> Counter[str]:
    """How many descriptors of each kind: files by their names, sockets and anonymous ones by their types."""
    found: Counter[str] = Counter()
    for one in open_descriptors(process.pid):
        target = one.partition("=")[2].replace(f"{folder}/", "").removesuffix(" (deleted)")
        found[re.sub(r":\[\d+\]", "", target)] += 1
    return found


def family(balancer: Balancer) -> dict[str, Counter[str]]:
    """The descriptors of each process."""
    return {title(process): kinds(process, balancer.folder) for process in balancer.processes()}


def more_than(before: dict[str, Counter[str]], now: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """What processes have open now and had not before; a process that is not there counts too."""
    assert before.keys() == now.keys()
    return {name: now[name] - before[name] for name in before if now[name] - before[name]}


def unix_sockets(kind: str) -> set[int]:
    """Inodes of the machine's Unix sockets of a type, or (by flags) of the listening ones."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {int(row[6]) for row in rows if kind in (row[4], row[3])}


def listening() -> set[int]:
    """Inodes of the listening TCP and Unix sockets."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[9]) for row in rows if row[3] == "0A"} | unix_sockets(LISTENING)


STANDARD = {"/dev/null": 1, "stdout": 1, "stderr": 1, "/memfd:nlb-segment": 2, "anon_inode:[eventpoll]": 1}
"""stdin, stdout, stderr, the segment (and its mapping's own), a selector."""


def needed() -> dict[str, dict[str, int]]:
    """What each kind of process needs."""
    listeners = 2
    return {
        "nlb: log writer": {
            **STANDARD,
            "/memfd:nlb-facts": 2,
            "event.log": 1,
            "access.log": 1,
            "anon_inode:[eventfd]": 1,
            "socket": 1,
        },
        "nlb: prober": {**STANDARD, "event.log": 1, "/memfd:nlb-checks": 1, "socket": 1 + 2},  # asyncio wakes itself
        # its channel, a spare one, every slot's sockets; the mapping was inherited with the supervisor's descriptor closed
        "nlb: worker": {
            **STANDARD,
            "/memfd:nlb-segment": 1,
            "anon_inode:[eventfd]": 1,
            "socket": 1 + 1 + listeners * WORKERS,
        },
    }


def check(balancer: Balancer) -> None:
    """Nobody has more than it needs; no channel is another one's."""
    for name, found in family(balancer).items():
        for start, wanted in needed().items():
            if name.startswith(start):
                assert found <= Counter(wanted), f"{name}: {found - Counter(wanted)}"
    channels = unix_sockets(SEQPACKET)
    of_workers = [inodes(worker) & channels for worker in balancer.workers()]
    assert [len(one) for one in of_workers] == [1] * WORKERS, "a worker has the channel of another"
    of_supervisor = inodes(psutil.Process(balancer.pid)) & channels
    helpers = [inodes(one) for title in ("nlb: log writer", "nlb: prober") for one in balancer.titled(title)]
    assert [len(one & channels) for one in helpers] == [1, 1], "a helper has the channel of another"
    assert not any(one & listening() for one in helpers)
    assert len(of_supervisor) == WORKERS + 2
    assert len(of_supervisor.union(*of_workers, *(one & channels for one in helpers))) == 2 * (WORKERS + 2)
    assert psutil.Process(balancer.pid).num_threads() == 1
    assert all(worker.num_threads() == 1 for worker in balancer.workers())


def test_at_the_start(balancer: Balancer) -> None:
    """As it was started."""
    check(balancer)


def test_after_restarts(balancer: Balancer) -> None:
    """21 restarts of workers and one of each helper, under load: nobody has more than before, and no zombie is left."""
    before = family(balancer)
    with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
        for _ in range(ROUNDS):
            mark = len(balancer.events())
            for worker in by_slot(balancer).values():
                end(worker, signal.SIGKILL)
            for slot in range(WORKERS):
                balancer.wait_event("worker_started", since=mark, worker=slot)
            visitors.wait_since(0)
        for name in ("nlb: log writer", "nlb: prober"):
            (old,) = balancer.titled(name)
            end(old, signal.SIGKILL)
            successor(balancer, name, old)
    assert [worker["restarts"] for worker in balancer.status()["workers"]] == [ROUNDS] * WORKERS
    wait_until(lambda: balancer.status()["connections"] == 0, "all have left")
    wait_until(
        lambda: not more_than(before, family(balancer)), lambda: f"{more_than(before, family(balancer))} more", 5
    )
    states = {one.pid: one.status() for one in psutil.Process(balancer.pid).children()}
    assert psutil.STATUS_ZOMBIE not in states.values(), states
    assert len(states) == WORKERS + 2
    check(balancer)
