"""USR2: another program takes the listening sockets over while clients come and stay; or it fails, and nothing has happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.balancer import NLB, Balancer, alive, nlb, plain_listener
from tests.support.reloading import changed, descriptors, follow, no_more_than, orphanage, stopped, upgrade
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, Talkers, Visitors, by_slot, refused, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    """The successor is the child of a process that ends."""
    with orphanage():
        yield


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """As everywhere, from a program of its own that can be exchanged: `balancer.program`."""
    with ExitStack() as stack:

        def start(configuration: dict[str, Any]) -> Balancer:
            balancer = Balancer(tmp_path, configuration)
            balancer.program = Path(shutil.copy(NLB, tmp_path / "nlb"))
            balancer.restarts_expected = True
            stack.callback(balancer.kill)
            stack.callback(balancer.stop)
            return balancer.start()

        yield start


def exchange(balancer: Balancer, code: str = "") -> None:
    """Another program: the same, that does something before."""
    lines = NLB.read_text().splitlines()
    beside = balancer.folder / "nlb.new"
    beside.write_text("\n".join([lines[0], code, *lines[1:]]) + "\n")
    beside.chmod(0o755)
    beside.replace(balancer.program)


def ended(old: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    """The old supervisor ends with 0, and so do all of its processes."""
    assert old.wait(15) == 0
    wait_until(lambda: not any(map(alive, family)), lambda: f"all end: {[one for one in family if alive(one)]}")


class Operator:
    """Somebody who looks at the status; a client like any other."""

    port = 0

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    def ping(self, data: bytes = b"", timeout: float = 5) -> float:
        assert self.balancer.ask("status")["state"] == "running", (
            "also of the old program, asked just before it handed over"
        )
        return 0.0

    def read_to_end(self, timeout: float = 5) -> tuple[bytes, str]:
        return b"", ""

    def close(self) -> None:
        pass


def test_under_load(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """Twice in a row: clients of the old program talk on to their own end, those who come are served by the new one, and not
    one exchange fails. Sessions of the old one are not resumed, but nobody is refused for one.
    """
    balancer = run(tables(drain_timeout="60s", pid_file="nlb.pid"))
    visit = partial(tls_client, balancer.port(), context)
    pid_file = balancer.folder / "nlb.pid"
    with Visitors(visit) as visitors, Visitors(lambda: Operator(balancer), threads=1) as operator:
        for _ in range(2):
            before = balancer.pid
            family = balancer.processes()
            with ExitStack() as stack:
                held = spread(stack, visit, balancer, 2)
                tickets = [clients[0].session for clients in held.values()]
                with Talkers([*held[0], *held[1]]) as talkers:
                    old = upgrade(balancer)
                    assert balancer.pid != before
                    assert pid_file.read_text().strip() == str(balancer.pid)
                    new = spread(stack, visit, balancer, 1)
                    visitors.wait_since(time.monotonic(), 20)
                    talkers.wait_rounds()
                    assert old.poll() is None
                assert not talkers.error
                for ticket in tickets:
                    with closing(tls_client(balancer.port(), context, ticket)) as client:
                        client.ping()
                for client in (*held[0], *held[1]):
                    client.close()
                ended(old, [one for one in family if one.pid != balancer.pid])
                for clients in new.values():
                    clients[0].ping(b"still here" * 5000)
        visitors.wait_since(time.monotonic(), 20)
    visitors.all_served(0, 5)
    operator.all_served(0, 5)
    assert pid_file.read_text().strip() == str(balancer.pid)
    status = balancer.status()
    assert (status["pid"], status["state"], len(status["workers"])) == (balancer.pid, "running", 2)
    assert len(balancer.processes()) == 1 + 2 + 2
    balancer.stop()
    assert not pid_file.exists()
    assert not balancer.control_socket.exists()


def test_other_configuration(run: Run, tables: Tables, context: ssl.SSLContext, tmp_path: Path) -> None:
    """With another file than the old one serves: listeners come and go, a Unix socket stays."""
    base = changed(tables(), local=plain_listener(bind=f"unix:{tmp_path}/app.sock"), other=plain_listener())
    balancer = run(base)
    gone = balancer.port("other")
    with Visitors(lambda: PlainClient(tmp_path / "app.sock")) as visitors:
        balancer.rewrite(changed(base, other=None, new=plain_listener()))
        family = balancer.processes()
        ended(upgrade(balancer), [one for one in family if one.pid != balancer.pid])
        visitors.wait_since(time.monotonic())
    visitors.all_served(0, 5)
    assert refused(gone)
    for client in (PlainClient(balancer.port("new")), tls_client(balancer.port(), context)):
        with closing(client):
            client.ping()


@pytest.mark.parametrize("workers", [1, 3])
def test_other_number_of_workers(run: Run, tables: Tables, workers: int) -> None:
    """Fewer: the sockets of the slots without a worker are served by the others. More: each has its share."""
    base = tables()
    balancer = run(base)
    base["node"]["workers"] = workers
    balancer.rewrite(base)
    visit = partial(PlainClient, balancer.port("plain"))
    with Visitors(visit) as visitors:
        family = balancer.processes()
        ended(upgrade(balancer), [one for one in family if one.pid != balancer.pid])
        assert len(balancer.workers()) == workers
        visitors.wait_since(time.monotonic(), 40)
        with ExitStack() as stack:
            spread(stack, visit, balancer, 2)
    visitors.all_served(0, 5)
    if workers == 1:
        balancer.signal(signal.SIGTTIN)
        wait_until(lambda: len(balancer.workers()) == 2, "the slot is used again")
        with ExitStack() as stack:
            spread(stack, visit, balancer, 2)


def failed(balancer: Balancer, reason: str, family: list[psutil.Process]) -> None:
    """The upgrade has failed, for this reason, and all is as it was."""
    event = balancer.wait_event("upgrade_failed", 15)
    assert reason in event["reason"]
    status = balancer.ask("status")
    assert (status["pid"], status["state"]) == (balancer.pid, "running")
    wait_until(lambda: set(balancer.processes()) == set(family), lambda: f"{family}: {balancer.processes()}")
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()
    assert nlb("status", "--check", "--socket", balancer.control_socket).returncode == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(1)", "has ended"),
        ("import time; time.sleep(60)", "was not ready within 1 s"),
        ("import nlbcore.process.worker as w; w.main = lambda _: __import__('os')._exit(3)", "has ended"),
    ],
    ids=["ends", "hangs", "workers"],
)
def test_program_that_fails(run: Run, tables: Tables, code: str, reason: str) -> None:
    """It ends, hangs, or its workers end: the old one goes on as if nothing had happened. The next one that is good wins."""
    base = tables()
    balancer = run({**base, "node": {**base["node"], "upgrade_timeout": "1s" if "sleep" in code else "20s"}})
    before, family = descriptors(balancer), balancer.processes()
    exchange(balancer, code)
    balancer.expected_stderr = lambda text: "Traceback" not in text
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors, Talkers(held[0]) as talkers:
            balancer.signal(signal.SIGUSR2)
            failed(balancer, reason, family)
            talkers.wait_rounds()
        assert not talkers.error
        visitors.all_served(0, 5)
    no_more_than(balancer, before)
    if "sleep" in code:
        exchange(balancer)
        balancer.rewrite(base)
        balancer.reload()
        ended(upgrade(balancer), family)


def test_configuration_that_is_wrong(run: Run, tables: Tables) -> None:
    """The new program refuses to start with it."""
    base = tables()
    balancer = run(base)
    before, family = descriptors(balancer), balancer.processes()
    balancer.expected_stderr = lambda text: "Traceback" not in text
    balancer.rewrite(changed(base, plain={"server_group": "nobody"}))
    balancer.signal(signal.SIGUSR2)
    failed(balancer, "has ended", family)
    no_more_than(balancer, before)
    assert "nobody" in balancer.stderr()


def test_in_the_middle_of_a_reload(run: Run, tables: Tables) -> None:
    """USR2 while PREPARE is on its way: the reload goes well first, then the upgrade does, with what the file says then."""
    base = tables()
    balancer = run(base)
    balancer.rewrite(changed(base, new=plain_listener()))
    with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
        with stopped(by_slot(balancer)[0]):
            balancer.signal(signal.SIGHUP)
            time.sleep(0.3)  # PREPARE is sent
            balancer.signal(signal.SIGUSR2)
            time.sleep(0.2)
        balancer.wait_event("reloaded")
        ended(upgrade(balancer, ask=False), [])
        visitors.wait_since(time.monotonic())
    visitors.all_served(0, 5)
    with closing(PlainClient(balancer.port("new"))) as client:
        client.ping()


def test_term_in_the_middle(run: Run, tables: Tables) -> None:
    """TERM while the new program starts: neither is left."""
    balancer = run(tables())
    exchange(balancer, "import time; time.sleep(60)")
    balancer.signal(signal.SIGUSR2)
    pid = int(balancer.wait_event("upgrade_begun")["pid"])
    balancer.signal(signal.SIGTERM)
    balancer.wait_exit(0)
    assert not psutil.pid_exists(pid)


def test_hup_in_the_middle(run: Run, tables: Tables) -> None:
    """HUP while a new program starts that fails: the reload comes after it."""
    balancer = run(tables(upgrade_timeout="1s"))
    exchange(balancer, "import time; time.sleep(60)")
    balancer.signal(signal.SIGUSR2)
    balancer.wait_event("upgrade_begun")
    balancer.signal(signal.SIGHUP)
    balancer.wait_event("upgrade_failed")
    assert balancer.wait_event("reloaded")["trigger"] == "signal"


def test_command_in_the_middle(run: Run, tables: Tables) -> None:
    """`nlb reload` while a new program starts is told what has happened, and to ask again; not left without an answer."""
    balancer = run(tables())
    exchange(balancer, "import time; time.sleep(0.5)")
    balancer.signal(signal.SIGUSR2)
    balancer.wait_event("upgrade_begun")
    done = nlb("reload", "--socket", balancer.control_socket)
    upgrade(balancer, ask=False).wait(10)
    assert done.returncode == 1
    assert "upgraded meanwhile" in done.stderr, done.stderr
    assert nlb("reload", "--socket", balancer.control_socket).returncode == 0


def test_old_one_is_killed(run: Run, tables: Tables) -> None:
    """SIGKILL of the old supervisor while it drains: its workers end, the new one does not notice."""
    balancer = run(tables(drain_timeout="60s"))
    family = balancer.processes()
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        old = upgrade(balancer)
        with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
            old.kill()
            old.wait()
            moment = time.monotonic()  # a visitor may have been with one of its workers
            wait_until(lambda: not any(map(alive, family)), "its processes end")
            for client in (*held[0], *held[1]):
                client.read_to_end()
            visitors.wait_since(time.monotonic(), 20)
        visitors.all_served(moment, 5)
    assert balancer.ask("status")["state"] == "running"


def test_old_one_is_killed_before(run: Run, tables: Tables) -> None:
    """SIGKILL of the old supervisor while the new program starts: who comes waits in the queues, and the new one serves."""
    balancer = run(tables())
    family = balancer.processes()
    exchange(balancer, "import time; time.sleep(1)")
    balancer.signal(signal.SIGUSR2)
    pid = int(balancer.wait_event("upgrade_begun")["pid"])
    os.kill(balancer.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, family)), "the old ones end")
    with ExitStack() as stack:
        for _ in range(10):
            client = PlainClient(balancer.port("plain"))
            stack.callback(client.close)
            client.ping()
    balancer.wait_event("ready", pid=pid)
    follow(balancer, pid).wait()
    assert balancer.ask("status")["state"] == "running"
    assert nlb("status", "--check", "--socket", balancer.control_socket).returncode == 0


def test_new_one_is_stopped_while_the_old_one_drains(run: Run, tables: Tables) -> None:
    """TERM for the new one: it ends; the old one's clients talk on to their end."""
    balancer = run(tables(drain_timeout="60s"))
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        old = upgrade(balancer)
        os.kill(balancer.pid, signal.SIGTERM)
        wait_until(lambda: refused(balancer.port("plain")), "nobody listens")
        for client in (*held[0], *held[1]):
            client.ping(b"still here" * 1000)
            client.close()
        assert old.wait(10) == 0
    balancer.wait_exit(0)
