"""Under a service manager: what it is told and by whom, sockets that it hands over, the watchdog, and the pid file for those
that have none.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.balancer import Balancer, plain_listener
from tests.support.reloading import changed, orphanage, refused, stopped, upgrade
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Tables = dict[str, Any]

ACTIVATE = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as systemd:
    systemd.connect(sys.argv[1])
    names, fds, _, _ = socket.recv_fds(systemd, 1000, 10)
fds = [os.dup2(fd, 100 + number) for number, fd in enumerate(fds)]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.closerange(3 + len(fds), 200)
given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names.decode()}
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, **given})
"""
"""In the process that becomes nlb: take the sockets as 3, 4, ... and say so, as systemd does."""


class Manager:
    """The service manager's end of sd_notify(3)."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(10)
        self.address = name.replace("\0", "@")

    def next(self) -> tuple[int, dict[str, str]]:
        """Who speaks, and what: the next message that is neither a sign of life nor only a status."""
        while (heard := self.hear())[1].keys() <= {"WATCHDOG", "STATUS"}:
            pass
        return heard

    def alive(self) -> float:
        """When the next sign of life comes."""
        while "WATCHDOG" not in self.hear()[1]:
            pass
        return time.monotonic()

    def hear(self) -> tuple[int, dict[str, str]]:
        data, rights, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        ((_, _, sender),) = rights
        return struct.unpack("iII", sender)[0], dict(line.split("=", 1) for line in data.decode().splitlines())

    def says_nothing(self, seconds: float = 0.0) -> bool:
        """For so long, after all that was said until now, but for how it is."""
        until = time.monotonic() + seconds
        try:
            while True:
                self.socket.settimeout(max(0.0, until - time.monotonic()))
                if self.hear()[1].keys() != {"STATUS"}:
                    return False
        except (BlockingIOError, TimeoutError):
            return True
        finally:
            self.socket.settimeout(10)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Reached by a path or by an abstract name."""
    with closing(Manager(str(tmp_path / "notify") if request.param == "path" else f"\0nlb-test-{os.getpid()}")) as made:
        yield made


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Balancer]]:
    """`service(configuration, VARIABLE=...)`: a balancer that is about to be launched, with these variables."""
    with ExitStack() as stack:

        def make(configuration: Tables, *, prefix: tuple[str, ...] = (), **environment: str) -> Balancer:
            balancer = Balancer(tmp_path, configuration, prefix=prefix)
            balancer.environment |= environment
            balancer.restarts_expected = True
            stack.callback(balancer.kill)
            return balancer

        yield make


def test_a_life(manager: Manager, service: Callable[..., Balancer], tables: Callable[..., Tables]) -> None:
    """Start, reloads, stop: each is said once, by the supervisor; when it says that it is ready, it is."""
    configuration = tables()
    balancer = service(configuration, NOTIFY_SOCKET=manager.address).launch()
    pid, said = manager.next()
    assert said["READY"] == "1"
    assert said["STATUS"].startswith("generation 1, 2 ")
    assert pid == balancer.pid
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()
    balancer.measure()
    for process in (*balancer.titled("nlb: log writer"), *balancer.titled("nlb: prober")):
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{process.pid}/environ").read_bytes()

    def reloaded() -> None:
        """What is said of the reload that was asked for at `asked`: generation 2 is in force."""
        pid, said = manager.next()
        assert (pid, said.pop("RELOADING")) == (balancer.pid, "1")
        assert asked <= int(said.pop("MONOTONIC_USEC")) <= microseconds()
        assert said == {"STATUS": "reloading"}
        pid, said = manager.next()
        assert (pid, said["READY"]) == (balancer.pid, "1")
        assert said["STATUS"].startswith("generation 2, 2 ")

    balancer.rewrite(changed(configuration, plain=None))
    asked = microseconds()
    balancer.signal(signal.SIGHUP)
    reloaded()
    balancer.rewrite(changed(configuration, plain={"server_group": "none"}))
    asked = microseconds()
    refused(balancer)
    reloaded()

    balancer.signal(signal.SIGTERM)
    assert manager.next() == (balancer.pid, {"STOPPING": "1", "STATUS": "draining"})
    balancer.wait_exit(0)
    assert manager.says_nothing()


def microseconds() -> int:
    """Of the clock that systemd compares."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_no_ready_without_a_start(
    tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]
) -> None:
    """A start that fails says nothing of the kind."""
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        balancer = service(tables(), NOTIFY_SOCKET=manager.address)
        with socket.create_server(("127.0.0.1", balancer.port("plain"))):
            balancer.expected_stderr = lambda text: "another process listens there" in text
            balancer.launch().wait_exit(1)
        assert manager.says_nothing()


def test_an_upgrade(tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]) -> None:
    """The old program says whose word counts, before it is the new one's; the old one's end is not the service's."""
    with orphanage(), closing(Manager(str(tmp_path / "notify"))) as manager:
        balancer = service(tables(), NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="800000").start()
        first = balancer.pid
        assert manager.next()[1]["READY"] == "1"
        old = upgrade(balancer)
        assert manager.next() == (first, {"MAINPID": str(balancer.pid)})
        pid, said = manager.next()
        assert (pid, said["READY"]) == (balancer.pid, "1")
        assert old.wait(15) == 0
        wait_until(lambda: manager.hear() == (balancer.pid, {"WATCHDOG": "1"}), "a sign of life of the new one")
        balancer.signal(signal.SIGTERM)
        pid, said = manager.next()
        assert (pid, said["STOPPING"]) == (balancer.pid, "1")
        balancer.wait_exit(0)


def test_watchdog(tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]) -> None:
    """Fed while all workers answer; a worker that hangs starves it, until it answers again or another has its place."""
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        balancer = service(tables(), NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="800000").start()
        manager.next()
        times = [manager.alive() for _ in range(3)]
        assert max(later - sooner for sooner, later in pairwise(times)) < 0.8, times
        with stopped(balancer.workers()[0]):
            balancer.wait_event("worker_stuck")
            while not manager.says_nothing(0.1):
                pass
            assert manager.says_nothing(0.8)
        balancer.wait_event("worker_recovered")
        manager.alive()
        balancer.stop()


# -- socket activation --------------------------------------------------------------------------------------------------


class Systemd:
    """Listening sockets that outlive the service: two of the name "web", one of another; each start gets them."""

    def __init__(self, path: Path) -> None:
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports = [one.getsockname()[1] for one in self.sockets]
        self.hands = socket.socket(socket.AF_UNIX)
        self.hands.bind(str(path))
        self.hands.listen()
        self.hands.settimeout(10)
        self.prefix = (sys.executable, "-c", ACTIVATE, str(path))

    def hand_over(self) -> None:
        service, _ = self.hands.accept()
        with service:
            socket.send_fds(service, [b"web:other:web"], [one.fileno() for one in self.sockets])

    def close(self) -> None:
        for one in (*self.sockets, self.hands):
            one.close()


def test_sockets_of_systemd(tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]) -> None:
    """Clients who come before the start and between two are served after it; both sockets of the name belong to the listener,
    the third to nobody, and none gets to a process that has no use for it.
    """
    configuration = {**tables(), "listeners": {"web": plain_listener(bind="systemd:web")}}
    with ExitStack() as stack:
        systemd = stack.enter_context(closing(Systemd(tmp_path / "systemd")))
        balancer = service(configuration, prefix=systemd.prefix)
        first, _, second = systemd.ports
        for times in (1, 2):
            early = [stack.enter_context(closing(PlainClient(number))) for number in (first, second)]
            balancer.launch()
            systemd.hand_over()
            for client in early:
                client.ping()
            wait_until(partial(lambda times: len(balancer.find_events("ready")) == times, times), "ready")
            balancer.measure()
            for number in (first, second) * 4:
                with closing(PlainClient(number)) as client:
                    client.ping()
            for process in balancer.processes():
                ports = {one.laddr.port for one in process.net_connections() if one.status == psutil.CONN_LISTEN}
                serves = process.pid == balancer.pid or process in balancer.workers()
                assert ports == ({first, second} if serves else set()), process
                assert b"LISTEN_" not in Path(f"/proc/{process.pid}/environ").read_bytes() or serves
            balancer.reload()
            balancer.rewrite(changed(configuration, web={"bind": ["systemd:web", "systemd:gone"]}))
            refused(balancer, "systemd:gone", "handed over no socket of that name")
            balancer.rewrite(configuration)
            for client in early:
                client.close()
            balancer.stop()


# -- pid file -----------------------------------------------------------------------------------------------------------


def test_pid_file(tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]) -> None:
    """A stale one is replaced; it is there when the balancer is ready, and gone after its end."""
    path = tmp_path / "nlb.pid"
    path.write_text("4194304\n")
    balancer = service(tables(pid_file="nlb.pid")).start()
    assert path.read_text() == f"{balancer.pid}\n"
    balancer.reload()
    path.unlink()
    path.write_text("1\n")  # another's, by now
    balancer.stop()
    assert path.read_text() == "1\n"
    balancer.start()
    assert path.read_text() == f"{balancer.pid}\n"
    balancer.stop()
    assert not path.exists()


def test_what_is_no_pid_file_stays(
    tmp_path: Path, service: Callable[..., Balancer], tables: Callable[..., Tables]
) -> None:
    (tmp_path / "notes").write_text("important\n")
    balancer = service(tables(pid_file="notes"))
    balancer.expected_stderr = lambda text: "something else has that name" in text
    balancer.launch().wait_exit(1)
    assert (tmp_path / "notes").read_text() == "important\n"
