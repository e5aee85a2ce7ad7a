"""Stopping two workers: what is open goes on to its end, nothing new comes in, and the exit code tells how it went.

One worker, and what is logged: tests/wire/test_stop.py.
"""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import NLB, Balancer, alive, nlb
from tests.support.waiting import stays, wait_until
from tests.support.workers import PlainClient, by_slot, end, refused, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]
    Held = dict[int, list[PlainClient]]


@contextmanager
def draining(
    run: Run, tables: Tables, number: signal.Signals = signal.SIGTERM, drain: str = "60s"
) -> Iterator[tuple[Balancer, Held]]:
    """A balancer that drains, with an open connection at each worker."""
    balancer = run(tables(drain_timeout=drain))
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        balancer.signal(number)
        wait_until(lambda: refused(balancer.port("plain")) and refused(balancer.port()), "the listeners close")
        wait_until(lambda: balancer.ask("status")["connections"] == len(everybody(held)), "who has looked has left")
        yield balancer, held


def everybody(held: Held) -> list[PlainClient]:
    """All clients."""
    return [client for clients in held.values() for client in clients]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=lambda one: one.name)
def test_to_the_end(run: Run, tables: Tables, number: signal.Signals) -> None:
    """Clients of both workers talk on; when the last one of a worker has left the worker ends, then the balancer with 0."""
    with draining(run, tables, number) as (balancer, held):
        assert balancer.status()["state"] == "draining"
        workers = by_slot(balancer)
        for _ in range(3):
            for client in everybody(held):
                client.ping(b"still here" * 1000)
        assert balancer.exit_code is None
        for client in held[0]:
            client.close()
        wait_until(lambda: not alive(workers[0]), "the worker without connections ends")
        for client in held[1]:
            client.ping()
        stays(lambda: alive(workers[1]) and balancer.exit_code is None, "the other worker", 0.3)
        for client in held[1]:
            client.close()
        balancer.wait_exit(0)
    assert not balancer.find_events("worker_died")


def test_tls_to_the_end(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """The same with TLS, whose connections end properly."""
    balancer = run(tables(drain_timeout="60s"))
    with ExitStack() as stack:
        held = spread(stack, partial(tls_client, balancer.port(), context), balancer, 2)
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: refused(balancer.port()), "the listener closes")
        for client in (*held[0], *held[1]):
            client.ping(b"still here" * 1000)
            client.close_notify()
            assert client.read_to_end() == (b"", "close_notify")
        balancer.wait_exit(0)
    words = [line["termination"] for line in balancer.access.lines()]
    assert words == ["client_close"] * sum(map(len, held.values()))


def test_drain_timeout(run: Run, tables: Tables) -> None:
    """Whoever has not left after `drain_timeout` is cut off; exit 0."""
    with draining(run, tables, drain="1s") as (balancer, held):
        moment = time.monotonic()
        for client in everybody(held):
            client.read_to_end()
        assert 0.5 < time.monotonic() - moment < 6
        balancer.wait_exit(0)


def test_second_signal(run: Run, tables: Tables) -> None:
    """A second TERM cuts everybody off at once; exit 0, and every connection is logged."""
    with draining(run, tables) as (balancer, held):
        moment = time.monotonic()
        balancer.signal(signal.SIGTERM)
        for client in everybody(held):
            client.read_to_end()
        balancer.wait_exit(0)
        assert time.monotonic() - moment < 6
    assert {line["client_port"] for line in balancer.access.find(termination="shutdown")} == {
        client.port for client in everybody(held)
    }


def test_quit_does_not_hurry(run: Run, tables: Tables) -> None:
    """A second QUIT is no reason to cut anybody off."""
    with draining(run, tables, signal.SIGQUIT) as (balancer, held):
        balancer.signal(signal.SIGQUIT)
        stays(lambda: balancer.exit_code is None, "it drains on", 0.4)
        for client in everybody(held):
            client.ping()
            client.close()
        balancer.wait_exit(0)


def test_nlb_stop(run: Run, tables: Tables) -> None:
    """`nlb stop` drains and waits; `nlb stop --now` beside it cuts it short. Both end with 0 when the balancer has gone."""
    balancer = run(tables(drain_timeout="60s"))
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        command = [str(NLB), "stop", "--socket", str(balancer.control_socket)]
        waiting = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        wait_until(lambda: refused(balancer.port("plain")), "the listeners close")
        for client in everybody(held):
            client.ping()
        stays(lambda: waiting.poll() is None, "the command waits", 0.3)
        done = nlb("stop", "--now", "--socket", balancer.control_socket)
        assert done.returncode == 0, done.stderr
        for client in everybody(held):
            client.read_to_end(1.0)
        assert waiting.wait(3) == 0
        balancer.wait_exit(0)
    assert nlb("stop", "--socket", balancer.control_socket).returncode == 69


def test_worker_killed(run: Run, tables: Tables) -> None:
    """A worker that dies while it drains has cut off its clients: it is not replaced, the others finish, and the exit code is 1."""
    with draining(run, tables) as (balancer, held):
        end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_died", worker=0, reason="SIGKILL")
        for client in held[0]:
            client.read_to_end(1.0)
        for client in held[1]:
            client.ping(b"still here" * 1000)
        stays(lambda: list(by_slot(balancer)) == [1], "the worker is not replaced", 0.5)
        for client in held[1]:
            client.close()
        balancer.wait_exit(1)


def test_while_a_worker_is_down(run: Run, tables: Tables) -> None:
    """TERM while a slot waits for its next worker: it gets none, the other one drains, exit 0."""
    balancer = run(tables(drain_timeout="60s"))
    for _ in range(2):  # the second delay is long enough
        mark = len(balancer.events())
        end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_died", since=mark)
        if len(balancer.find_events("worker_died")) < 2:
            balancer.wait_event("worker_started", since=mark)
    client = PlainClient(balancer.port("plain"))
    client.ping()
    balancer.signal(signal.SIGTERM)
    wait_until(lambda: refused(balancer.port("plain")), "the listeners close")
    client.ping()
    client.close()
    balancer.wait_exit(0)
    assert len(balancer.find_events("worker_started")) == 1


def test_stopped_worker(run: Run, tables: Tables) -> None:
    """A worker that hangs while it drains is killed after 3 s, as always; else nothing would ever end."""
    with draining(run, tables) as (balancer, held):
        sleeper = by_slot(balancer)[0]
        sleeper.send_signal(signal.SIGSTOP)
        balancer.wait_event("worker_killed", worker=0, pid=sleeper.pid)
        for client in held[1]:
            client.ping()
            client.close()
        balancer.wait_exit(1)


def test_helpers_drain_too(run: Run, tables: Tables) -> None:
    """A log writer that dies during a long drain is replaced: what ends after that is logged."""
    with draining(run, tables) as (balancer, held):
        end(balancer.titled("nlb: log writer")[0], signal.SIGKILL)
        for client in everybody(held):
            client.ping()
            client.close()
        balancer.wait_exit(0)
    logged = {line["client_port"] for line in balancer.access.lines()}
    assert logged >= {client.port for client in everybody(held)}


def test_term_during_the_start(tmp_path: Path, tables: Tables, request: pytest.FixtureRequest) -> None:
    """TERM at any moment of the start: it ends soon, by the signal or with 0, nothing stays behind, and it can start again."""
    balancer = Balancer(tmp_path, tables())
    request.addfinalizer(balancer.kill)
    moments: list[Callable[[], object]] = [
        lambda: balancer.processes()[1:],
        lambda: balancer.control_socket.exists(),
        balancer.workers,
        lambda: balancer.find_events("ready"),
    ]
    for moment in moments:
        balancer.event_log.unlink(missing_ok=True)
        balancer.launch()
        wait_until(moment, "a moment of the start")
        family = balancer.processes()
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: balancer.exit_code is not None, "the end", 5)
        assert balancer.exit_code in (0, -signal.SIGTERM), balancer.describe()
        balancer.check_stderr()
        wait_until(lambda: not any(map(alive, family)), "every process ends", 3)  # noqa: B023 - it is called here
        balancer.kill()
    with balancer:
        PlainClient(balancer.port("plain")).close()
