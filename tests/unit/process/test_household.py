"""The household: who is in it, what each is started with, and who is told what when a generation has come into force."""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.address import Endpoint
from nlbcore.config.model import Config, Log
from nlbcore.errors import EXIT_FAILED, StartError
from nlbcore.facts import Facts
from nlbcore.process import prober, watcher
from nlbcore.process.attendant import hear
from nlbcore.process.household import Household, _listen
from nlbcore.process.logs import Logs, discard
from nlbcore.process.snapshot import Snapshot
from nlbcore.segment import HEARTS
from nlbcore.tls.material import ListenerMaterial, Material, ServerCertificate
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.unit.process.generations import config, generation
from tests.unit.process.played import Played

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Housed:
    """A household beside workers that the test plays."""

    def __init__(self, workers: Played, folder: Path, read_at: float) -> None:
        self.workers = workers
        self.folder = folder
        self.facts = Facts.create()
        self.facts.publish({"node": "n1", "names": {}})
        log = Log.model_validate({"file": str(folder / "log"), "access": str(folder / "access"), "level": "debug"})
        self.logs = Logs(log)
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.household = Household(
            workers.fleet,
            workers.segment,
            self.facts,
            self.eventfd,
            self.logs,
            workers.selector,
            folder / "nlb.toml",
            read_at,
        )

    def wait(self, condition: Callable[[], Any], what: str | Callable[[], str]) -> None:
        def met() -> Any:
            self.workers.turn()
            self.household.tick(time.monotonic())
            return condition()

        wait_until(met, what)

    def events(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        household = self.household
        household.close(5)
        for fd in (household._checks, household._paths, household._read_only, self.facts.fd, self.eventfd):
            os.close(fd)
        discard((self.logs.events.fd, self.logs.access))
        del self.facts, self.workers, self.household  # their mappings have descriptors of their own


@contextmanager
def housed(folder: Path, snapshot: Snapshot, workers: int = 0, read_at: float = 0.0) -> Iterator[Housed]:
    with Played(workers, snapshot, folder) as played:
        one = Housed(played, folder, read_at)
        try:
            yield one
        finally:
            one.close()


def snapshot(number: int = 1, made: Config | None = None, **node: Any) -> Snapshot:
    return generation(number, made or config({"app": {"a": 1}}, node=node))


def test_who_is_in_it(tmp_path: Path) -> None:
    with housed(tmp_path, snapshot()) as one:
        assert list(one.household.attendants) == ["log_writer", "prober"]
        assert one.household.listening is None
        assert one.household.pids == set()
    with housed(tmp_path, snapshot(admin=f"127.0.0.1:{free_port()}", watch=True)) as one:
        assert list(one.household.attendants) == list(HEARTS)


def test_what_each_is_started_with(tmp_path: Path) -> None:
    """No more than it needs; who talks to strangers cannot write where workers read."""
    port = free_port()
    with housed(tmp_path, snapshot(admin=f"127.0.0.1:{port}", watch=True), read_at=7.5) as one:
        orders: dict[str, Any] = {name: each._orders(99) for name, each in one.household.attendants.items()}
        events = {"events": one.logs.events.fd, "level": "debug", "format": "text", "control": 99}
        for each in orders.values():
            assert {key: getattr(each, key) for key in events} == events
        assert (orders["log_writer"].access, orders["log_writer"].eventfd) == (one.logs.access, one.eventfd)
        assert [check.row for check in prober.read_checks(orders["prober"].checks)] == [0]
        assert watcher.read_paths(orders["watcher"].paths) == [str(tmp_path / "nlb.toml")]
        assert orders["watcher"].since == 7.5
        assert (orders["admin"].bind, orders["admin"].facts) == (f"127.0.0.1:{port}", one.facts.fd)
        with socket.socket(fileno=os.dup(orders["admin"].listening)) as listening:
            assert listening.getsockname() == ("127.0.0.1", port)
        for name, each in orders.items():
            assert os.path.sameopenfile(each.segment, one.workers.segment.fd)
            if name == "admin":
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.pwrite(each.segment, b"x", 0)


def test_they_start_live_and_end(tmp_path: Path) -> None:
    """Four processes of their own; a command of the supervisor's reaches the one that it is for."""
    with housed(tmp_path, snapshot(admin=f"127.0.0.1:{free_port()}", watch=True), read_at=time.time()) as one:
        household = one.household
        household.start()
        assert not household.ready
        one.wait(lambda: household.ready, "all have begun")
        assert len(household.pids) == len(HEARTS)
        one.wait(
            lambda: all(one.workers.segment.shared.hearts[:]),
            lambda: f"hearts: {list(one.workers.segment.shared.hearts)} {one.events()}",
        )
        changes: list[int] = []
        household.changed = lambda: changes.append(1)
        (tmp_path / "nlb.toml").write_text("changed")
        one.wait(lambda: changes, "the watcher has told of a change")
        household.dismiss()
        one.wait(lambda: list(household.attendants) == ["log_writer", "prober"], "a successor's are dismissed")
        os.kill(household.attendants["log_writer"].pid, 9)
        one.wait(lambda: not household.attendants["log_writer"].pid, "it has died")
        household.finish()
        assert household.attendants["log_writer"].restarts == 1, "it has work left"
        one.wait(lambda: not household.attendants, "all have ended")
        assert "log_writer_died" in one.events()


def test_one_that_does_not_start(tmp_path: Path) -> None:
    with housed(tmp_path, snapshot()) as one:
        one.household.start()
        os.kill(one.household.attendants["prober"].pid, 9)
        with pytest.raises(StartError, match="the prober did not start; what it printed stands above"):
            one.wait(lambda: one.household.ready, "it is seen")


def test_the_admin_address_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError) as caught:
            _listen(Endpoint.parse(address))
        assert str(caught.value) == f"cannot listen on {address} ([node] admin): address already in use"
        assert caught.value.exit_code == EXIT_FAILED


# -- a new generation ----------------------------------------------------------------------------------------------------


class Ears:
    """Stands in for the process of an attendant: hears what it is told."""

    def __init__(self, one: Housed, name: str) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        one.household.attendants[name]._control = ours
        one.workers.selector.register(ours, select.EPOLLIN)

    def heard(self) -> tuple[dict[str, Any], list[int]]:
        found = hear(self.theirs)
        assert found is not None
        return found


def test_all_get_new_orders(tmp_path: Path) -> None:
    """The new checks and paths; the old ones are closed when everybody has been told."""
    certificate = ServerCertificate(
        tmp_path / "a.crt", tmp_path / "a.key", (b"",), b"", ("a",), datetime(2030, 1, 1, tzinfo=UTC), "EC"
    )
    material = Material({"web": ListenerMaterial(certificates=(certificate, certificate))})
    with housed(tmp_path, snapshot(watch=True)) as one:
        household = one.household
        old = {os.fstat(fd).st_ino for fd in (household._checks, household._paths)}
        ears = {name: Ears(one, name) for name in ("prober", "watcher")}
        made = config({"app": {"a": 1, "b": 1}}, {"web": "app"}, node={"watch": True})
        household.told(generation(2, made, material=material), 9.5)
        for name, each in ears.items():
            packet, fds = each.heard()
            orders = packet["orders"]
            if name == "prober":
                assert [check.row for check in prober.read_checks(fds[orders["checks"]])] == [0, 1]
            else:
                files = ("nlb.toml", "a.crt", "a.key")
                assert watcher.read_paths(fds[orders["paths"]]) == [str(tmp_path / file) for file in files]
                assert orders["since"] == 9.5
            for fd in fds:
                os.close(fd)
            each.theirs.close()
        assert not old & {os.fstat(int(fd)).st_ino for fd in os.listdir("/proc/self/fd") if is_open(int(fd))}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_watching_is_switched_on_and_off(tmp_path: Path) -> None:
    with housed(tmp_path, snapshot()) as one:
        for number, watch in enumerate((True, False, True, True, False), 2):
            one.household.told(snapshot(number, watch=watch), 0.0)
            assert ("watcher" in one.household.attendants) or not watch
            if watch:
                assert one.household.attendants["watcher"].pid
        one.wait(lambda: "watcher" not in one.household.attendants, "it has ended")


def test_files_of_a_generation(tmp_path: Path) -> None:
    """Each once, the configuration first; CAs and revocation lists are those that the configuration names."""
    ca, crl = tmp_path / "ca.crt", tmp_path / "ca.crl"
    for path in (ca, crl):
        path.write_text("")
    listener = {
        "bind": "127.0.0.1:443",
        "server_group": "app",
        "client_auth": {"ca": [str(ca)], "crl": [str(crl)]},
        "certificates": [],
    }
    made = Config.model_validate({"listeners": {"web": listener, "more": {**listener, "bind": "127.0.0.1:444"}}})
    with housed(tmp_path, generation(1, config({}))) as one:
        one.household.told(Snapshot(2, made, Material({}), snapshot().rows), 0.0)
        files = [str(tmp_path / "nlb.toml"), str(ca), str(crl)]
        assert watcher.read_paths(one.household._paths) == files


# -- what they say -------------------------------------------------------------------------------------------------------


def test_the_admin_process_asks_who_is_connected(tmp_path: Path) -> None:
    """All workers are asked; the files go to it, and none stays here, also when it is gone by then."""
    with housed(tmp_path, snapshot(admin=f"127.0.0.1:{free_port()}"), workers=2) as one:
        ears = Ears(one, "admin")
        for gone in (False, True):
            one.household._asked({"ask": "connections"})
            for number in range(2):
                (message,) = one.workers.heard(number)
                os.close(message.fds[0])
                if gone and number:
                    one.household.dismiss()
                    one.household.tick(time.monotonic())
                    assert "admin" not in one.household.attendants
                one.workers.say(number, "DUMPED")
            if not gone:
                packet, fds = ears.heard()
                assert packet["connections"]["workers"] == [0, 1]
                assert len(fds) == 2
                for fd in fds:
                    os.close(fd)
        ears.theirs.close()


def test_what_else_is_said_is_ignored(tmp_path: Path) -> None:
    with housed(tmp_path, snapshot(admin=f"127.0.0.1:{free_port()}"), workers=1) as one:
        one.household.changed = lambda: pytest.fail("nothing has changed")
        for packet in ({}, {"ask": "x"}, {"ask": ["connections"]}, {"say": "x"}, {"say": ["changed"]}):
            one.household._asked(packet)
            one.household._told_of_change(packet)
        assert one.workers.heard(0) == []
        hearts = one.workers.segment.shared.hearts
        heart = HEARTS.index("admin")
        hearts[heart] = 0
        one.household._asked({"say": "alive"})
        assert hearts[heart] > 0
