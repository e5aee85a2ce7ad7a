"""The prober as the process it is, against real servers: verdicts in the segment, events, restarts, its end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest

from nlbcore.address import Endpoint
from nlbcore.pool.health import Check
from nlbcore.process.attendant import hear, say
from nlbcore.process.prober import Orders, checks_memfd, read_checks
from nlbcore.segment import (
    AVAILABLE,
    HEARTS,
    INITIAL,
    MAINT,
    READY,
    REASONS,
    UNAVAILABLE,
    UNHEALTHY,
    Segment,
)
from tests.support.backends import Backend, Hanging, Refusing
from tests.support.switched import Switched
from tests.support.waiting import stays, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OFTEN = 0.05
MANY = 2000


def check(row: int, address: str, **changes: object) -> Check:
    """A check every 50 ms."""
    fields: dict[str, object] = {
        "group": "app",
        "server": f"s{row}",
        "weight": 100,
        "enabled": True,
        "type": "TCP",
        "interval": OFTEN,
        "connect_timeout": 1.0,
        "healthy_threshold": 2,
        "unhealthy_threshold": 2,
        "port": 0,
        **changes,
    }
    return Check(row=row, address=Endpoint.parse(address), **fields)  # type: ignore[arg-type]


class Running:
    """A segment, and probers on it, one after the other."""

    def __init__(self, folder: Path, *checks: Check) -> None:
        self.segment = Segment.create(1)
        self.path = folder / "events.log"
        self.log = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.checks = checks_memfd(checks)
        self.start()

    def start(self) -> None:
        """Until it says that it is ready."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders = Orders(self.segment.fd, theirs.fileno(), self.log, self.checks, "debug", "text")
        fds = [getattr(self.orders, name) for name in Orders.DESCRIPTORS]
        with theirs:
            self.process = subprocess.Popen(
                self.orders.command(), pass_fds=fds, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        self.control.settimeout(20)
        assert hear(self.control) == ({"say": "ready"}, [])

    def renew(self, *checks: Check, **changes: Any) -> None:
        """As `Attendant.renew()`: all descriptors beside the new orders."""
        os.close(self.checks)
        self.checks = checks_memfd(checks)
        orders = replace(self.orders, control=-1, checks=self.checks, **changes)
        fds = [fd for name in Orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0]
        places = {name: fds.index(fd) for name in Orders.DESCRIPTORS if (fd := getattr(orders, name)) >= 0}
        assert say(self.control, {"orders": {**vars(orders), **places}}, fds)

    def heart(self) -> int:
        return int(self.segment.shared.hearts[HEARTS.index("prober")])

    def ended(self, code: int) -> None:
        """It has ended with this code, and said nothing."""
        assert self.process.wait(10) == code
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            assert stderr.read() == b""
        self.control.close()

    def crash(self) -> None:
        self.process.kill()
        self.ended(-signal.SIGKILL)

    def verdict(self, row: int) -> tuple[int, str]:
        verdict = self.segment.verdicts[row]
        return verdict.state, REASONS[verdict.reason]

    def wait(self, row: int, state: int, reason: str = "") -> None:
        wait_until(lambda: self.verdict(row) == (state, reason), lambda: f"row {row}: {self.verdict(row)}", 10)

    def events(self, name: str = "") -> list[str]:
        lines = [line.split(" ", 1)[1] for line in self.path.read_text().splitlines()]
        return [line for line in lines if not name or line.split()[1] == name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        for fd in (self.log, self.checks, self.segment.fd):
            os.close(fd)
        del self.segment


@pytest.fixture
def server() -> Iterator[Switched]:
    with Switched() as made:
        yield made


def test_orders() -> None:
    orders = Orders(3, 4, 2, 5, "info", "json")
    assert [getattr(orders, name) for name in Orders.DESCRIPTORS] == [3, 4, 2, 5]
    assert Orders(**json.loads(orders.command()[-1])) == orders
    assert orders.command()[1:4] == ["-P", "-m", "nlbcore.process.prober"]


def test_checks_can_be_read_again() -> None:
    checks = [check(row, "127.0.0.1:80") for row in range(3)]
    fd = checks_memfd(checks)
    assert os.get_inheritable(fd) is False
    assert read_checks(fd) == read_checks(fd) == checks
    os.close(fd)


def test_the_event_loop_stays_out_of_the_supervisor() -> None:
    script = "import sys, nlbcore.process.prober, nlbcore.process.supervisor; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", script], check=False).returncode == 0


def test_every_kind_of_server(tmp_path: Path) -> None:
    """One that accepts, one that refuses, one that does not answer, a UNIX socket, one that is not checked."""
    refusing, hanging = Refusing(), Hanging()
    with Backend() as good, Backend(path=tmp_path / "app.sock") as local:
        checks = [
            check(10, good.address),
            check(1, refusing.address),
            check(2, hanging.address, connect_timeout=0.2),
            check(3, local.address),
            check(4, refusing.address, enabled=False),
            check(5, refusing.address, port=good.port),
        ]
        with Running(tmp_path, *checks) as running:
            running.wait(10, AVAILABLE)
            running.wait(1, UNHEALTHY, "CONNECT_FAILED")
            running.wait(2, UNHEALTHY, "CONNECT_TIMEOUT")
            running.wait(3, AVAILABLE)
            running.wait(4, UNAVAILABLE)
            running.wait(5, AVAILABLE)
            assert all(running.segment.verdicts[one.row].since_ms for one in checks)
            assert running.verdict(0) == (INITIAL, "")
            assert len(running.events()) == 5, "one for each change, none for what is not checked"
            good.wait_accepted(3)
            wait_until(lambda: {seen.end for seen in good.connections} <= {"reset", None}, "checks end with a reset")
            assert good.received == local.received == 0
    refusing.close()
    hanging.close()


def test_down_and_up_again(tmp_path: Path, server: Switched) -> None:
    with Running(tmp_path, check(0, server.address)) as running:
        running.wait(0, AVAILABLE)
        since = running.segment.verdicts[0].since_ms
        server.down()
        running.wait(0, UNHEALTHY, "CONNECT_FAILED")
        assert running.segment.verdicts[0].since_ms > since
        server.up()
        running.wait(0, AVAILABLE)
        wait_until(lambda: running.events("group_recovered"), "the last event")
        who = f"group=app server=s0 address={server.address}"
        assert running.events() == [
            f"info server_available {who}",
            f'warning server_unhealthy {who} reason=CONNECT_FAILED error="connection refused"',
            "error group_fail_open group=app",
            f"info server_available {who}",
            "info group_recovered group=app",
        ]


def test_a_crash_keeps_the_verdicts(tmp_path: Path, server: Switched) -> None:
    """As if nothing had happened: one failure does not make a good server bad, dead ones are not given the benefit of the
    doubt again, and nothing is told twice.
    """
    refusing = Refusing()
    with Switched() as back_again:
        back_again.down()
        checks = [check(0, server.address, interval=20.0), check(1, refusing.address), check(2, back_again.address)]
        with Running(tmp_path, *checks) as running:
            running.wait(0, AVAILABLE)
            running.wait(1, UNHEALTHY, "CONNECT_FAILED")
            running.wait(2, UNHEALTHY, "CONNECT_FAILED")
            before = [running.segment.verdicts[row].since_ms for row in (0, 1)]
            running.crash()
            server.down()
            back_again.up()
            seen = len(running.events())
            running.start()
            running.wait(2, AVAILABLE)
            assert running.verdict(1) == (UNHEALTHY, "CONNECT_FAILED")
            assert running.verdict(0) == (AVAILABLE, "")
            assert [running.segment.verdicts[row].since_ms for row in (0, 1)] == before
            wait_until(lambda: len(running.events()) > seen, "an event")
            assert [line.split()[3] for line in running.events()[seen:]] == ["server=s2"]
    refusing.close()


def test_signals_do_nothing_and_the_end_of_the_control_socket_ends_it(tmp_path: Path, server: Switched) -> None:
    """With checks under way, some of them unanswered."""
    hanging = Hanging()
    checks = check(0, server.address), check(1, hanging.address, connect_timeout=300.0)
    with Running(tmp_path, *checks) as running:
        running.wait(0, AVAILABLE)
        for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"):
            running.process.send_signal(signal.Signals[f"SIG{name}"])
        server.wait_accepted(server.accepted + 3)
        assert "nlb: prober" in " ".join(psutil.Process(running.process.pid).cmdline())
        running.control.close()
        running.ended(0)
    hanging.close()


def test_its_heart_beats_until_its_loop_hangs(tmp_path: Path, server: Switched) -> None:
    with Running(tmp_path, check(0, server.address)) as running:
        for _ in range(3):
            before = running.heart()
            wait_until(lambda before=before: running.heart() > before, "its heart beats", 0.6)  # type: ignore[misc]
        running.process.send_signal(signal.SIGSTOP)
        before = running.heart()
        stays(lambda: running.heart() == before, "no beat", 0.6)
        running.process.send_signal(signal.SIGCONT)
        wait_until(lambda: running.heart() > before, "it beats again", 0.6)


def test_new_orders_while_it_runs(tmp_path: Path, server: Switched) -> None:
    """Servers come and go, one stays as it is; the log moves; no descriptor is left behind."""
    refusing = Refusing()
    stays_as_it_is = check(0, server.address, interval=30.0)
    with Backend() as gone, Backend() as new, Running(tmp_path, stays_as_it_is, check(1, gone.address)) as running:
        running.wait(0, AVAILABLE)
        running.wait(1, AVAILABLE)
        memfds = _memfds(running.process.pid)
        since, accepted = running.segment.verdicts[0].since_ms, server.accepted
        running.segment.verdicts[2].waits = 1
        log = os.open(tmp_path / "other.log", os.O_WRONLY | os.O_CREAT)
        running.renew(stays_as_it_is, check(2, new.address), check(3, refusing.address), events=log, format="json")
        os.close(log)
        running.wait(2, AVAILABLE)
        running.wait(3, UNHEALTHY, "CONNECT_FAILED")
        assert running.segment.verdicts[2].waits == 0
        assert running.segment.verdicts[0].since_ms == since
        assert server.accepted == accepted, "its next check is due in half a minute"
        before = gone.accepted
        stays(lambda: gone.accepted == before, "the one that is gone is not checked", 4 * OFTEN)
        assert len(running.events()) == 2
        told = [json.loads(line)["server"] for line in (tmp_path / "other.log").read_text().splitlines()]
        assert sorted(told) == ["s2", "s3"]
        assert _memfds(running.process.pid) == memfds
    refusing.close()


def _memfds(pid: int) -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a check that has just ended
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(one for one in found if "memfd" in one)


def test_maintenance(tmp_path: Path, server: Switched) -> None:
    with Running(tmp_path, check(0, server.address)) as running:
        running.wait(0, AVAILABLE)
        running.segment.shared.orders[0].state = MAINT
        running.wait(0, INITIAL)
        accepted = server.accepted
        stays(lambda: server.accepted == accepted, "no checks", 4 * OFTEN)
        server.down()
        running.segment.shared.orders[0].state = READY
        running.wait(0, UNHEALTHY, "CONNECT_FAILED")


def test_it_ends_with_a_killed_supervisor(tmp_path: Path, server: Switched) -> None:
    """The supervisor here is a process that starts a prober, and is killed."""
    script = (
        "import os, socket, subprocess, sys, time\n"
        "from nlbcore.process.prober import Orders\n"
        "segment, log, checks = map(int, sys.argv[1:])\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "orders = Orders(segment, theirs.fileno(), log, checks, 'info', 'text')\n"
        "prober = subprocess.Popen(orders.command(), pass_fds=(segment, theirs.fileno(), log, checks))\n"
        "theirs.close()\n"
        "ours.recv(100)\n"
        "print(prober.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    segment, log, checks = Segment.create(1), os.open(os.devnull, os.O_WRONLY), checks_memfd([check(0, server.address)])
    fds = (segment.fd, log, checks)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script, *map(str, fds)], pass_fds=fds, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        prober = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    wait_until(lambda: not prober.is_running() or prober.status() == psutil.STATUS_ZOMBIE, "the prober ends", 5)
    del segment
    for fd in fds:
        os.close(fd)


def test_a_lack_of_descriptors_is_no_verdict(tmp_path: Path, server: Switched) -> None:
    """Told once; when there are descriptors again, checks go on."""
    with Running(tmp_path, check(0, server.address), check(1, server.address)) as running:
        running.wait(0, AVAILABLE)
        running.wait(1, AVAILABLE)
        hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        wait_until(lambda: running.events("health_check_not_made"), "an event")
        server.down()
        stays(lambda: running.verdict(0) == (AVAILABLE, ""), "no check, no verdict", 0.3)
        assert running.events("health_check_not_made") == [
            'error health_check_not_made error="too many open files" count=1'
        ]
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        running.wait(0, UNHEALTHY, "CONNECT_FAILED")


def test_checks_of_a_server_do_not_overlap_and_silent_ones_hold_up_nobody(tmp_path: Path, server: Switched) -> None:
    """Three hundred checks wait for an answer that never comes: one socket each, and the good server is checked on."""
    hanging = Hanging()
    silent = [check(row, hanging.address, connect_timeout=300.0) for row in range(1, 301)]
    with Running(tmp_path, *silent, check(0, server.address)) as running:
        prober = psutil.Process(running.process.pid)
        wait_until(lambda: prober.num_fds() >= 300, "they are all under way")
        server.wait_accepted(server.accepted + 10)
        assert prober.num_fds() < 330
        assert {running.verdict(row) for row in range(1, 301)} == {(INITIAL, "")}
        running.control.close()
        running.ended(0)
    hanging.close()


def test_a_held_up_prober_makes_no_false_verdict(tmp_path: Path, server: Switched) -> None:
    """It is stopped while checks are due and under way: time has run out for all of them, and no server is to blame."""
    checks = [check(row, server.address, connect_timeout=0.1, unhealthy_threshold=1) for row in range(20)]
    with Running(tmp_path, *checks) as running:
        for row in range(20):
            running.wait(row, AVAILABLE)
        running.process.send_signal(signal.SIGSTOP)
        stays(lambda: True, "it stands still for twenty intervals", 20 * OFTEN)
        before = server.accepted
        running.process.send_signal(signal.SIGCONT)
        server.wait_accepted(before + 100)
        assert len(running.events("server_unhealthy")) == 0
        assert {running.verdict(row) for row in range(20)} == {(AVAILABLE, "")}


class ManyServers:
    """Servers on 127.x.y.z, all one listening socket, which only the loopback device reaches."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        self._listener.bind(("0.0.0.0", 0))
        self._listener.listen(4096)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port = self._listener.getsockname()[1]
        self.seen: Counter[str] = Counter()

    @staticmethod
    def host(number: int) -> str:
        return f"127.1.{number // 250}.{number % 250 + 1}"

    def serve(self) -> None:
        """Accept what is there, or comes soon."""
        self._selector.select(0.05)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                self.seen[sock.getsockname()[0]] += 1
                sock.close()

    def close(self) -> None:
        self._selector.close()
        self._listener.close()


def test_two_thousand_servers(tmp_path: Path) -> None:
    """Every one is checked again and again at an interval of a second, those that refuse too; what that costs is bounded."""
    servers, refusing = ManyServers(), Refusing()
    dead = refusing.address.rpartition(":")[2]
    checks = [
        check(
            row,
            f"{servers.host(row)}:{dead if row % 4 == 3 else servers.port}",
            group=f"g{row % 4}",
            interval=1.0,
            connect_timeout=30.0,
        )
        for row in range(MANY)
    ]
    good = {servers.host(row) for row in range(MANY) if row % 4 != 3}

    def thrice() -> bool:
        servers.serve()
        return all(servers.seen[host] >= 3 for host in good)

    with Running(tmp_path, *checks) as running:
        wait_until(thrice, lambda: f"three checks of all: {Counter(servers.seen.values())}", 30)
        assert servers.seen.keys() == good
        assert max(servers.seen.values()) <= 2 * min(servers.seen.values()), "all in turn"
        for row in range(MANY):
            assert running.verdict(row) == ((UNHEALTHY, "CONNECT_FAILED") if row % 4 == 3 else (AVAILABLE, ""))
        assert len(running.events()) == MANY + 1
        assert running.events("group_fail_open") == ["error group_fail_open group=g3"]
        spent = psutil.Process(running.process.pid).cpu_times()
        assert spent.user + spent.system < 0.002 * sum(servers.seen.values())
    servers.close()
    refusing.close()
