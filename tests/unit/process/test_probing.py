"""One TCP check against every kind of server, and what its result does to the segment and the event log."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nlbcore.address import Endpoint
from nlbcore.observe.log import EventLog
from nlbcore.pool.health import Check
from nlbcore.process import probing
from nlbcore.process.probing import Failure, NotMadeError, Prober
from nlbcore.segment import AVAILABLE, DRAIN, INITIAL, MAINT, READY, REASONS, UNAVAILABLE, UNHEALTHY, Segment
from tests.support.backends import Backend, Hanging, Refusing
from tests.support.proxied import header_v2, proxied_backend
from tests.unit.pool.test_health import CHECK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = Failure("CONNECT_FAILED", "connection refused")
TIMED_OUT = Failure("CONNECT_TIMEOUT", "connection timed out")


def probe(address: str, limit: float = 5.0) -> Failure | None:
    return asyncio.run(probing.tcp(Endpoint.parse(address), limit))


def test_a_server_that_accepts(tmp_path: Path) -> None:
    for server in (Backend(), Backend(host="::1"), Backend(path=tmp_path / "app.sock")):
        with server:
            assert probe(server.address) is None


def test_the_server_sees_a_reset_and_no_time_wait_is_left() -> None:
    with Backend() as server:
        assert probe(server.address) is None
        seen = server.wait_accepted(1)
        server.wait_finished()
        assert (seen.end, seen.received) == ("reset", 0)
        with open("/proc/net/tcp") as table:
            states = [line.split()[3] for line in table if f":{server.port:04X} " in line]
        assert "06" not in states, "TIME_WAIT"


def test_a_server_that_expects_a_header_sees_it_and_an_ordinary_end() -> None:
    server, headers = proxied_backend()
    with server:
        for number, version in ((1, 1), (2, 2)):
            check = replace(CHECK, address=Endpoint.parse(server.address), proxy_protocol=version)
            assert asyncio.run(probing.tcp(check.target, check.connect_timeout, check.header)) is None
            assert not headers.wait(number).proxied or version == 1
            server.wait_finished()
            assert server.last.end == "eof"
    assert headers.raw == [b"PROXY UNKNOWN\r\n", header_v2(command=0x20, family=0)]


def test_a_server_that_refuses(tmp_path: Path) -> None:
    server = Refusing()
    assert probe(server.address) == REFUSED
    server.close()
    missing = probe(f"unix:{tmp_path / 'missing'}")
    assert missing == Failure("CONNECT_FAILED", "no such file or directory")
    gone = Backend(path=tmp_path / "app.sock")
    gone.close()
    assert probe(gone.address) == REFUSED


def test_a_server_that_does_not_answer() -> None:
    server = Hanging()
    assert probe(server.address, 0.1) == TIMED_OUT
    server.close()


def test_a_unix_server_whose_queue_is_full(tmp_path: Path) -> None:
    """connect() says EAGAIN, and such a socket looks connected to poll: it is asked again until there is room."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        assert probe(f"unix:{path}", 0.1) == TIMED_OUT

        async def accept_meanwhile() -> Failure | None:
            check = asyncio.create_task(probing.tcp(Endpoint.parse(f"unix:{path}"), 5.0))
            await asyncio.sleep(0)
            listener.accept()[0].close()
            return await check

        assert asyncio.run(accept_meanwhile()) is None
        listener.accept()[0].close()


def test_a_late_prober_is_not_a_late_server() -> None:
    """The time is over when the answer is looked at: what counts is that it is there."""
    with Backend() as server:
        assert probe(server.address, 0.0) is None


def test_an_interface_that_does_not_exist() -> None:
    assert probe("[fe80::1%nlb-nowhere]:80") == Failure("CONNECT_FAILED", "no interface with this name")


def test_a_connect_that_meets_itself() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        assert probing._met_itself(sock)
    with Backend() as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        assert not probing._met_itself(sock)


def test_out_of_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def without() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        await probing.tcp(Endpoint.parse("127.0.0.1:1"), 1.0)

    try:
        with pytest.raises(NotMadeError, match="too many open files"):
            asyncio.run(without())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Bench:
    """A segment and an event log; `prober(...)` makes the one that would write there."""

    def __init__(self, folder: Path) -> None:
        self.segment = Segment.create(1)
        self.path = folder / "events.log"
        self.log = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def prober(self, *checks: Check) -> Prober:
        return Prober(self.segment, list(checks), EventLog(self.log, "debug"))

    def verdict(self, row: int = 0) -> tuple[int, str]:
        verdict = self.segment.verdicts[row]
        return verdict.state, REASONS[verdict.reason]

    def events(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.path.read_text().splitlines()]

    def clear(self) -> None:
        os.truncate(self.path, 0)

    def close(self) -> None:
        os.close(self.log)
        os.close(self.segment.fd)
        del self.segment


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def check(row: int = 0, *, weight: int = 100, enabled: bool = True, port: int = 0, kind: str = "TCP") -> Check:
    address = Endpoint.parse(f"10.0.0.{row + 1}:80")
    return Check(row, "app", f"s{row}", address, weight, enabled, kind, 1.0, 1.0, 2, 2, port)


def test_results_become_verdicts_and_events(bench: Bench) -> None:
    one = check()
    prober = bench.prober(one)
    server = prober.servers[0]
    assert bench.verdict() == (INITIAL, "")
    prober.judged(server, None)
    assert bench.verdict() == (AVAILABLE, "")
    prober.judged(server, REFUSED)
    assert bench.verdict() == (AVAILABLE, "")
    prober.judged(server, REFUSED)
    assert bench.verdict() == (UNHEALTHY, "CONNECT_FAILED")
    since = bench.segment.verdicts[0].since_ms
    prober.judged(server, TIMED_OUT)
    assert bench.verdict() == (UNHEALTHY, "CONNECT_TIMEOUT"), "the reason is the last failure's"
    assert bench.segment.verdicts[0].since_ms == since
    prober.judged(server, None)
    prober.judged(server, None)
    assert bench.verdict() == (AVAILABLE, "")
    who = "group=app server=s0 address=10.0.0.1:80"
    assert bench.events() == [
        f"info server_available {who}",
        f'warning server_unhealthy {who} reason=CONNECT_FAILED error="connection refused"',
        "error group_fail_open group=app",
        f"info server_available {who}",
        "info group_recovered group=app",
    ]


def test_the_address_that_was_checked_is_told_when_it_is_another(bench: Bench) -> None:
    one = check(port=8080)
    prober = bench.prober(one)
    prober.judged(prober.servers[0], None)
    assert bench.events() == ["info server_available group=app server=s0 address=10.0.0.1:80 checked=10.0.0.1:8080"]


def test_a_group_without_weight_does_not_fail_open(bench: Bench) -> None:
    one = check(weight=0)
    prober = bench.prober(one)
    for _ in range(2):
        prober.judged(prober.servers[0], REFUSED)
    assert [line.split()[1] for line in bench.events()] == ["server_unhealthy"]


def test_what_stands_in_the_segment_is_gone_on_from(bench: Bench) -> None:
    for row, state in enumerate((AVAILABLE, UNHEALTHY, UNAVAILABLE, AVAILABLE)):
        verdict = bench.segment.verdicts[row]
        verdict.state, verdict.since_ms, verdict.reason = state, 7, state == UNHEALTHY
    prober = bench.prober(check(0), check(1), check(2), check(3, enabled=False), check(4))
    assert [bench.verdict(row) for row in range(5)] == [
        (AVAILABLE, ""),
        (UNHEALTHY, "CONNECT_TIMEOUT"),
        (INITIAL, ""),
        (UNAVAILABLE, ""),
        (INITIAL, ""),
    ]
    assert [bench.segment.verdicts[row].since_ms == 7 for row in range(5)] == [True, True, False, False, False]
    assert bench.segment.verdicts[4].since_ms > 1_700_000_000_000
    assert [prober.servers[row].judge.state for row in range(5)] == [bench.verdict(row)[0] for row in range(5)]
    assert bench.events() == []


def test_checks_that_cannot_be_made_change_nothing_and_are_told_once(bench: Bench) -> None:
    """A type that this version does not know stands for everything unforeseen."""
    one = check(kind="?")
    prober = bench.prober(one)

    async def often() -> None:
        for _ in range(5):
            await prober._check(prober.servers[0])

    asyncio.run(often())
    assert bench.verdict() == (INITIAL, "")
    assert bench.events() == ["error health_check_not_made error=KeyError('?') count=1"]
    prober.tell_after = 0.0
    asyncio.run(often())
    assert bench.events()[1].endswith("count=5"), "with those that were not told"


def checked(prober: Prober, row: int) -> bool:
    return prober.servers[row].task is not None


def wait_for(bench: Bench, row: int = 0) -> None:
    """As the supervisor gives out a row that a reload has added."""
    verdict = bench.segment.verdicts[row]
    verdict.state, verdict.reason, verdict.waits, verdict.since_ms = INITIAL, 0, 1, 7


def test_the_first_verdict_ends_the_wait(bench: Bench) -> None:
    for row in (0, 1, 2):
        wait_for(bench, row)
    prober = bench.prober(check(0), check(1), check(2, enabled=False))
    verdicts = bench.segment.verdicts
    assert [verdicts[row].waits for row in range(3)] == [1, 1, 0], "who is not checked does not wait"
    prober.judged(prober.servers[0], None)
    prober.judged(prober.servers[1], REFUSED)
    assert [verdicts[row].waits for row in range(3)] == [0, 1, 0]
    assert verdicts[1].since_ms == 7
    prober.judged(prober.servers[1], REFUSED)
    assert [verdicts[row].waits for row in range(3)] == [0, 0, 0]
    assert bench.events()[-1].startswith("warning server_unhealthy")


def test_new_checks(bench: Bench) -> None:
    """The same check goes on, with another weight too; changed ones begin anew, with what is known of the same address."""

    async def obey() -> None:
        old = [check(row) for row in range(6)]
        prober = bench.prober(*old)
        prober.look()
        before = dict(prober.servers)
        tasks = {row: server.task for row, server in before.items()}
        for row in range(5):
            prober.judged(before[row], None)
        for _ in range(2):
            prober.judged(before[1], REFUSED)
        wait_for(bench, 7)
        new = [
            replace(old[0], weight=1),
            replace(old[1], interval=2.0),
            replace(old[2], address=Endpoint.parse("10.9.9.9:80")),
            replace(old[3], port=8080),
            replace(old[4], enabled=False),
            check(7),
        ]
        since = [bench.segment.verdicts[row].since_ms for row in range(6)]
        prober.obey(new)
        await asyncio.sleep(0)
        assert prober.servers[0] is before[0]
        assert (prober.servers[0].task, prober.servers[0].check.weight) == (tasks[0], 1)
        assert all(task is not None and task.cancelled() for row, task in tasks.items() if row != 0)
        assert [bench.verdict(row) for row in range(5)] == [
            (AVAILABLE, ""),
            (UNHEALTHY, "CONNECT_FAILED"),
            (INITIAL, ""),
            (INITIAL, ""),
            (UNAVAILABLE, ""),
        ]
        assert [bench.segment.verdicts[row].waits for row in range(8)] == [0, 0, 1, 1, 0, 0, 0, 1]
        assert [bench.segment.verdicts[row].since_ms for row in (0, 1, 7)] == [*since[:2], 7]
        assert sorted(prober.servers) == [0, 1, 2, 3, 4, 7]
        assert [row for row, server in prober.servers.items() if server.task is None] == [4]
        for server in prober.servers.values():
            server.stop()

    asyncio.run(obey())


def test_new_checks_and_groups_that_fail_open(bench: Bench) -> None:
    async def obey() -> None:
        one, two = check(0), replace(check(1), group="gone")
        prober = bench.prober(one, two)
        for server in prober.servers.values():
            for _ in range(2):
                prober.judged(server, REFUSED)
        bench.clear()
        prober.obey([one])
        assert bench.events() == [], "nothing is told of a group that is no more"
        wait_for(bench, 5)
        bench.segment.verdicts[5].waits = 0
        prober.obey([one, check(5)])
        prober.obey([one])
        assert bench.events() == ["info group_recovered group=app", "error group_fail_open group=app"]
        for server in prober.servers.values():
            server.stop()

    asyncio.run(obey())


def test_orders_of_the_operator(bench: Bench) -> None:
    """They change who is usable; nothing is told twice."""

    async def obey() -> None:
        prober = bench.prober(check(0), check(1))
        orders = bench.segment.shared.orders
        for _ in range(2):
            prober.judged(prober.servers[0], REFUSED)
        bench.clear()
        for order, weight in ((DRAIN, 0), (READY, 0), (READY, 1), (READY, 11)):
            orders[1].state, orders[1].weight_and_one = order, weight
            prober.look()
            prober.look()
        assert bench.events() == ["error group_fail_open group=app", "info group_recovered group=app"] * 2
        assert bench.verdict(1) == (INITIAL, "")
        assert prober.servers[1].task is not None, "who is drained is checked"
        for server in prober.servers.values():
            server.stop()

    asyncio.run(obey())


def test_maintenance(bench: Bench) -> None:
    """No checks; what was known is forgotten at once, so that the server waits for its first verdict when it comes back."""

    async def obey() -> None:
        prober = bench.prober(check(0), check(1), check(2, enabled=False))
        verdict = bench.segment.verdicts[0]
        for _ in range(2):
            prober.judged(prober.servers[0], REFUSED)
        prober.look()
        task = prober.servers[0].task
        assert task is not None
        for row in (0, 2):
            bench.segment.shared.orders[row].state = MAINT
        prober.look()
        await asyncio.sleep(0)
        assert task.cancelled()
        assert not checked(prober, 0)
        assert bench.verdict(0) == (INITIAL, "")
        assert verdict.waits == 1
        assert bench.verdict(2) == (UNAVAILABLE, "")
        verdict.since_ms = 7
        bench.segment.shared.orders[1].cut_ms = 1
        prober.look()
        assert verdict.since_ms == 7
        bench.segment.shared.orders[0].state = READY
        prober.look()
        assert checked(prober, 0)
        assert (bench.verdict(0), verdict.waits, prober.servers[0].judge.failures) == ((INITIAL, ""), 1, 0)
        prober.judged(prober.servers[0], None)
        assert (bench.verdict(0), verdict.waits) == ((AVAILABLE, ""), 0)
        for server in prober.servers.values():
            server.stop()

    asyncio.run(obey())
