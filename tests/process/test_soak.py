"""Everything at once, under a steady load of new and long-lived connections that check every byte: reloads with alternating
certificates, a listener that comes and goes, workers that are killed, 2 -> 4 -> 1 workers, and a binary upgrade. Not one
exchange fails or comes back different, but those on a killed worker; descriptors, memory and processes are as before.

50 reloads and 5 kills; with `-m soak` 1,000 and 50, over four upgrades. The figures are printed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.balancer import plain_listener, server_group, tls_listener
from tests.support.reloading import Material, changed, descriptors, no_more_than, orphanage, upgrade
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Visitors, _Background, by_slot, end, slot_of, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer
    from tests.support.certs import Pki
    from tests.support.reloading import Tables
    from tests.support.workers import Client

RESIDENTS = 12
GROWTH = 2_000_000
"""Bytes that a process may grow from a fifth of the reloads to the last one."""
SLOW = 10.0


def anonymous(pid: int) -> int:
    """Resident bytes of a process but for files and shared memory: the log rings fill."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


class Residents(_Background):
    """Connections that stay and talk, at known slots; whoever is to be killed is taken out before."""

    def __init__(self, balancer: Balancer, connect_one: list[Callable[[], Client]]) -> None:
        super().__init__(1)
        self._balancer = balancer
        self._connect = connect_one
        self._lock = threading.Lock()
        self._clients: list[tuple[int, Client]] = []
        self.exchanges = 0
        self.errors: list[str] = []

    def _once(self, number: int) -> None:
        for slot, client in list(self._clients):
            with self._lock:
                if (slot, client) not in self._clients:
                    continue
                try:
                    client.ping(os.urandom(20_000), SLOW)
                    self.exchanges += 1
                except Exception as problem:
                    self._clients.remove((slot, client))
                    self.errors.append(f"worker {slot}, port {client.port}: {problem!r}")
                    client.close()

    def fill(self) -> None:
        """As many as there are to be."""
        while len(self._clients) < RESIDENTS:
            client = self._connect[len(self._clients) % len(self._connect)]()
            client.ping()
            self._clients.append((slot_of(self._balancer, client), client))

    def leave(self, slots: set[int]) -> list[Client]:
        """Those at these slots talk no more."""
        with self._lock:
            gone = [client for slot, client in self._clients if slot in slots]
            self._clients = [(slot, client) for slot, client in self._clients if slot not in slots]
        return gone

    def wait_exchanges(self, more: int = 3 * RESIDENTS) -> None:
        wanted = self.exchanges + more
        wait_until(lambda: self.errors or self.exchanges >= wanted, "they talk", 60)

    def close(self) -> None:
        for client in self.leave(set(range(256))):
            client.close()


class Soak:
    """One balancer under load, and what is done to it."""

    def __init__(self, balancer: Balancer, base: Tables, material: Material, pki: Pki, context: ssl.SSLContext) -> None:
        self.balancer = balancer
        self.base = base
        self.material = material
        self.certificates = [pki.root.server("www.example.com") for _ in range(2)]
        visits: list[Callable[[], Client]] = [
            partial(tls_client, balancer.port(), context),
            partial(PlainClient, balancer.port("plain")),
        ]
        self.residents = Residents(balancer, visits)
        self.visitors = [Visitors(visits[0], threads=2), Visitors(visits[1], threads=1)]
        self.extra = plain_listener()
        self.kills: list[float] = []
        self.reloads = self.upgrades = 0
        self.took: list[float] = []
        self.grown: dict[str, int] = {}

    # -- what is done to it -------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Another certificate; every tenth time the other listener comes or goes."""
        self.material.renew(self.certificates[self.reloads % 2])
        if self.reloads % 10 == 0:
            there = self.reloads % 20 == 0
            self.balancer.rewrite(changed(self.base, extra=self.extra) if there else self.base)
        moment = time.monotonic()
        self.balancer.reload()
        self.took.append(time.monotonic() - moment)
        if self.reloads % 20 == 0:
            with closing(PlainClient(self.balancer.port("extra"))) as client:
                client.ping()
        self.reloads += 1

    def kill(self, slot: int) -> None:
        mark = len(self.balancer.events())
        victim = by_slot(self.balancer)[slot]
        lost = self.residents.leave({slot})
        self.kills.append(end(victim, signal.SIGKILL))
        for client in lost:
            client.close()
        self.balancer.wait_event("worker_started", 20, since=mark, worker=slot)
        self.residents.fill()

    def resize(self, count: int) -> None:
        """To so many workers; who is at one that goes talks on for a while, then leaves."""
        running = self.running()
        number = signal.SIGTTIN if count > len(running) else signal.SIGTTOU
        while len(self.running()) != count:
            before = len(self.running())
            self.balancer.signal(number)
            wait_until(lambda: len(self.running()) != before, f"{number.name}\n{self.balancer.describe()}")  # noqa: B023
        self.residents.wait_exchanges()
        for client in self.residents.leave(running - self.running()):
            client.close()
        wait_until(lambda: set(by_slot(self.balancer)) == self.running(), "the others end", 30)
        self.residents.fill()

    def running(self) -> set[int]:
        return {one["slot"] for one in self.balancer.ask("status")["workers"] if one["state"] == "running"}

    def upgrade(self) -> None:
        """The residents of the old program talk on for a while, then leave it."""
        family = self.balancer.processes()
        old = upgrade(self.balancer)
        self.residents.wait_exchanges()
        for client in self.residents.leave(set(range(256))):
            client.close()
        assert old.wait(30) == 0
        wait_until(lambda: not [one for one in family if one.is_running() and one.pid != self.balancer.pid], "all end")
        self.residents.fill()
        self.upgrades += 1

    def phase(self, reloads: int, kills: int) -> None:
        """Grow, reload and kill, shrink, upgrade. The first worker is not killed, so that its memory can be compared."""
        self.resize(4)
        memory: dict[str, int] = {}
        for number in range(reloads):
            self.reload()
            if number == reloads // 5:
                memory = self.memory()
            if number % max(1, reloads // kills) == reloads // kills - 1 and number // (reloads // kills) < kills:
                self.kill(1 + number // (reloads // kills) % 3)
        for name, size in self.memory().items():
            self.grown[name] = max(self.grown.get(name, 0), size - memory[name])
        self.balancer.rewrite(self.base)
        self.balancer.reload()
        self.resize(1)
        self.resize(2)
        self.upgrade()

    def memory(self) -> dict[str, int]:
        found = {"supervisor": psutil.Process(self.balancer.pid), "worker 0": by_slot(self.balancer)[0]}
        found |= {name: self.balancer.titled(f"nlb: {name}")[0] for name in ("log writer", "prober")}
        return {name: anonymous(process.pid) for name, process in found.items()}

    # -- how it went --------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        visits = [visit for visitors in self.visitors for visit in visitors.visits]

        def on_a_killed_worker(start: float, seconds: float) -> bool:
            return any(start - 0.1 < moment < start + seconds + 0.1 for moment in self.kills)

        failed = [visit for visit in visits if visit.error]
        unexplained = [visit for visit in failed if not on_a_killed_worker(visit.start, visit.seconds)]
        took = sorted(self.took)
        print(
            f"{self.reloads} reloads (median {took[len(took) // 2]:.3f} s, longest {took[-1]:.3f} s), {len(self.kills)} kills, "
            f"{self.upgrades} upgrades; {len(visits)} new connections, longest {max(one.seconds for one in visits):.2f} s, "
            f"{len(failed)} lost with a killed worker; {self.residents.exchanges} exchanges on long-lived ones; "
            f"grown by { ({name: f'{size / 1000:.0f} kB' for name, size in self.grown.items()}) }"
        )
        assert not self.residents.errors
        assert not unexplained, f"{len(unexplained)} of {len(visits)}: {unexplained[:5]}"
        assert len(failed) <= 3 * len(self.kills)
        assert max(visit.seconds for visit in visits) < SLOW
        assert all(size < GROWTH for size in self.grown.values()), self.grown


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    with orphanage():
        yield


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("phases", "reloads", "kills"),
    [(1, 50, 5), pytest.param(4, 250, 13, marks=pytest.mark.soak)],
    ids=["short", "long"],
)
def test_everything(
    run: Callable[..., Balancer],
    backend: Backend,
    pki: Pki,
    context: ssl.SSLContext,
    tmp_path: Path,
    phases: int,
    reloads: int,
    kills: int,
) -> None:
    """See above."""
    material = Material(tmp_path / "material", pki.server)
    base: Tables = {
        "node": {"workers": 2, "drain_timeout": "60s"},
        "listeners": {"web": tls_listener(material, ca=pki.root.path), "plain": plain_listener()},
        "server_groups": {"app": server_group(backend)},
    }
    balancer = run(base)
    for number in (3, 4):
        balancer.signal(signal.SIGTTIN)
        wait_until(lambda: len(balancer.workers()) == number, "a worker more")  # noqa: B023
    wait_until(lambda: all(one["state"] == "running" for one in balancer.ask("status")["workers"]), "all run")
    before = descriptors(balancer)
    soak = Soak(balancer, base, material, pki, context)
    with ExitStack() as stack:
        stack.callback(soak.residents.close)
        soak.residents.fill()
        for load in (*soak.visitors, soak.residents):
            stack.enter_context(load)
        for _ in range(phases):
            soak.phase(reloads, kills)
        soak.resize(4)
    soak.judge()
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all have left")
    no_more_than(balancer, before)
    assert len(balancer.processes()) == 1 + 4 + 2
    words: Counter[Any] = Counter(line["termination"] for line in balancer.access.lines())
    assert words.keys() == {"client_close"}, words
