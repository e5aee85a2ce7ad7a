"""A worker whose loop hangs (SIGSTOP): its sibling accepts for it after a second, at three it is killed and replaced; or it
comes back in time, and nothing is lost.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.balancer import alive
from tests.support.tls_client import EOF, RESET
from tests.support.waiting import stays, wait_until
from tests.support.workers import PlainClient, Talkers, Visitors, by_slot, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]

LONGEST_WAIT = 2.8
"""Seconds until somebody serves who has come into the queue of a stopped worker: 1 s without a heartbeat, which is looked at
four times a second and beats ten times; the rest is for a busy machine. Without adoption it would be 3 s and more."""
FORGIVEN = 0.3
"""Seconds within which those were on their way whom the worker had accepted already when it was stopped."""


def test_killed_and_replaced(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """Stuck after about 1 s, killed after about 3 s, then started anew; the sibling serves all the time."""
    balancer = run(tables())
    visit = partial(tls_client, balancer.port(), context)
    with ExitStack() as stack:
        held = spread(stack, visit, balancer, 2)
        victim = by_slot(balancer)[1]
        with Visitors(visit, threads=4) as visitors, Talkers(held[0]) as talkers:
            victim.send_signal(signal.SIGSTOP)
            moment = time.monotonic()
            balancer.wait_event("worker_stuck", worker=1, pid=victim.pid)
            assert 0.8 < time.monotonic() - moment < 2.8
            talkers.wait_rounds()
            balancer.wait_event("worker_killed", worker=1, pid=victim.pid)
            assert 2.8 < time.monotonic() - moment < 6
            balancer.wait_event("worker_died", worker=1, reason="SIGKILL")
            for client in held[1]:
                assert client.read_to_end(1.0) in ((b"", EOF), (b"", RESET))
            balancer.wait_event("worker_started", worker=1)
            talkers.wait_rounds()
        assert not talkers.error
        visitors.all_served(moment + FORGIVEN, LONGEST_WAIT)
        status = balancer.status()
        assert status["connections"] == len(held[0])
        assert [worker["restarts"] for worker in status["workers"]] == [0, 1]
        assert status["workers"][1]["pid"] != victim.pid
        # it is a worker like any other, and the sibling has given its queue back
        assert all(len(clients) >= 3 for clients in spread(stack, visit, balancer, 3).values())


def test_recovers(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """One that goes on after 1.5 s is not killed and keeps its connections; the same process serves its slot again."""
    balancer = run(tables())
    visit = partial(tls_client, balancer.port(), context)
    with ExitStack() as stack:
        held = spread(stack, visit, balancer, 2)
        sleeper = by_slot(balancer)[0]
        with Visitors(visit, threads=4) as visitors:
            sleeper.send_signal(signal.SIGSTOP)
            moment = time.monotonic()
            balancer.wait_event("worker_stuck", worker=0)
            assert balancer.status()["workers"][0]["state"] == "stuck"
            time.sleep(max(0.0, moment + 1.5 - time.monotonic()))  # time is the behaviour
            sleeper.send_signal(signal.SIGCONT)
            balancer.wait_event("worker_recovered", worker=0, pid=sleeper.pid)
            visitors.wait_since(time.monotonic())
        visitors.all_served(moment + FORGIVEN, LONGEST_WAIT)
        for client in (*held[0], *held[1]):
            client.ping(b"still here" * 1000)
        stays(lambda: alive(sleeper), "the worker that has recovered", 1.7)
        assert [worker["restarts"] for worker in balancer.status()["workers"]] == [0, 0]
        again = spread(stack, visit, balancer, 2)
        assert by_slot(balancer)[0].pid == sleeper.pid
        for clients in (held, again):
            for client in (*clients[0], *clients[1]):
                client.ping()


def test_recovers_alone(run: Run, tables: Tables) -> None:
    """Without a sibling the clients wait, and are served by the worker when it goes on."""
    balancer = run(tables(workers=1))
    sleeper = by_slot(balancer)[0]
    sleeper.send_signal(signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [PlainClient(balancer.port("plain")) for _ in range(5)]
        for client in clients:
            stack.callback(client.close)
            client.sock.sendall(b"hello")
        balancer.wait_event("worker_stuck", worker=0)
        sleeper.send_signal(signal.SIGCONT)
        for client in clients:
            assert client.sock.recv(100) == b"hello"
    balancer.wait_event("worker_recovered", worker=0)
    assert by_slot(balancer)[0].pid == sleeper.pid


def test_supervisor_that_sleeps_blames_nobody(run: Run, tables: Tables) -> None:
    """The supervisor is stopped for longer than a worker may be silent: workers serve meanwhile, and none is accused after."""
    balancer = run(tables())
    workers = {worker.pid for worker in balancer.workers()}
    balancer.signal(signal.SIGSTOP)
    with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
        time.sleep(1.3)  # time is the behaviour
    balancer.signal(signal.SIGCONT)
    visitors.all_served(0, 2.8)
    wait_until(lambda: balancer.status()["state"] == "running", "the supervisor answers")
    stays(lambda: not balancer.find_events("worker_stuck"), "no worker is called stuck", 0.6)
    assert {worker.pid for worker in balancer.workers()} == workers


def test_a_frozen_machine_kills_nobody(run: Run, tables: Tables) -> None:
    """Everything is stopped for longer than a silent worker may live (a paused machine) and goes on, the supervisor first and
    the workers a little later, as on a busy machine: the same workers serve on.
    """
    balancer = run(tables())
    workers = balancer.workers()
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        for process in balancer.processes():
            process.send_signal(signal.SIGSTOP)
        time.sleep(3.3)  # time is the behaviour
        balancer.signal(signal.SIGCONT)
        time.sleep(0.6)  # less than a worker may be silent before the supervisor's eyes
        for process in balancer.processes():
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: balancer.status()["state"] == "running", "the supervisor answers")
        stays(lambda: all(map(alive, workers)), f"the same workers live\n{balancer.describe()}", 0.6)
        for clients in held.values():
            for client in clients:
                client.ping()
