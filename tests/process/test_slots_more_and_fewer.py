"""TTIN and TTOU: a worker more, a worker fewer, under load; who is connected stays so, who comes is served, and the shares are
even again.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.balancer import alive, plain_listener
from tests.support.reloading import changed, descriptors, no_more_than, stopped
from tests.support.waiting import stays, wait_until
from tests.support.workers import PlainClient, Talkers, Visitors, by_slot, end, slot_of, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.balancer import Balancer

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]

VISITS = 200


def states(balancer: Balancer) -> list[str]:
    """The words of the status, by slot."""
    return [worker["state"] for worker in balancer.ask("status")["workers"]]


def more(balancer: Balancer, count: int) -> None:
    """So many workers more, each wanted when the one before is there."""
    for _ in range(count):
        running = states(balancer).count("running")
        balancer.signal(signal.SIGTTIN)
        wait_until(lambda: states(balancer).count("running") == running + 1, "a worker more")  # noqa: B023


def fewer(balancer: Balancer, count: int) -> None:
    for _ in range(count):
        running = states(balancer).count("running")
        balancer.signal(signal.SIGTTOU)
        wait_until(lambda: states(balancer).count("running") == running - 1, "a worker fewer")  # noqa: B023


def shares(balancer: Balancer) -> list[float]:
    """Of each slot, in so many visits."""
    before = [worker["connections_total"] for worker in balancer.ask("status")["workers"]]
    for _ in range(VISITS):
        PlainClient(balancer.port("plain")).close()

    def counted() -> list[int]:
        now = [worker["connections_total"] for worker in balancer.ask("status")["workers"]]
        return [one - two for one, two in zip(now, before, strict=True)]

    wait_until(lambda: sum(counted()) >= VISITS, lambda: f"all are counted: {counted()}")
    return [count / VISITS for count in counted()]


def test_two_four_one(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """2 -> 4 -> 1 -> 2, with connections that talk and clients that come all the time: not one exchange fails."""
    balancer = run(tables(drain_timeout="60s"))
    visit = partial(tls_client, balancer.port(), context)
    with ExitStack() as stack:
        held = spread(stack, visit, balancer, 2)
        with Visitors(visit) as visitors, Talkers([*held[0], *held[1]]) as talkers:
            more(balancer, 2)
            assert set(by_slot(balancer)) == {0, 1, 2, 3}
            new = spread(stack, visit, balancer, 1)
            talkers.wait_rounds()
            fewer(balancer, 3)
            assert states(balancer).count("running") == 1
            talkers.wait_rounds()
            visitors.wait_since(time.monotonic(), 20)
            for clients in new.values():
                for client in clients:
                    client.ping(b"still here" * 5000)
                    client.close()
            wait_until(
                lambda: states(balancer).count("retired") == 2, "the slots without connections can be used again"
            )
            more(balancer, 1)
            talkers.wait_rounds()
            visitors.wait_since(time.monotonic(), 20)
        assert not talkers.error
        visitors.all_served(0, 5)
        for clients in held.values():
            for client in clients:
                client.close()
    wait_until(lambda: sorted(states(balancer)) == ["retired", "retired", "running", "running"], "the others end")
    assert not balancer.find_events("worker_died")
    assert len(balancer.find_events("worker_removed")) == 3
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all have left")


def test_shares(run: Run, tables: Tables) -> None:
    """Even over three; over two, of which one has the retired one's too; even over three again, and the slot is used again."""
    balancer = run(tables())
    before = descriptors(balancer)
    more(balancer, 1)
    with_three = descriptors(balancer)
    assert all(0.2 < share < 0.47 for share in shares(balancer))
    victim = by_slot(balancer)[2]
    fewer(balancer, 1)
    wait_until(lambda: states(balancer) == ["running", "running", "retired"], "it has retired")
    wait_until(lambda: not alive(victim), "its process has ended")
    assert balancer.ask("status")["workers"][2]["pid"] == 0
    one, two, retired = shares(balancer)
    assert (retired, one + two) == (0, 1)
    assert min(one, two) > 0.15
    more(balancer, 1)
    assert states(balancer) == ["running"] * 3
    assert all(0.2 < share < 0.47 for share in shares(balancer))
    no_more_than(balancer, with_three)
    assert with_three.keys() - before.keys() == {"nlb: worker 2"}


def test_the_last_one_stays(run: Run, tables: Tables) -> None:
    """It is refused, with a word in the log."""
    balancer = run(tables(workers=1))
    balancer.signal(signal.SIGTTOU)
    balancer.wait_event("worker_not_removed")
    stays(lambda: states(balancer) == ["running"], "the only worker", 0.3)
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()


def test_retiring_worker_that_is_killed(run: Run, tables: Tables) -> None:
    """One that drains and dies is not replaced; its clients are cut, nobody else notices."""
    balancer = run(tables(drain_timeout="60s"))
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        with Talkers(held[0]) as talkers, Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
            balancer.signal(signal.SIGTTOU)
            wait_until(lambda: states(balancer) == ["running", "retiring"], "it drains")
            assert all(client.ping() < 5 for client in held[1])
            end(by_slot(balancer)[1], signal.SIGKILL)
            moment = time.monotonic()  # a visitor may have been with it
            wait_until(lambda: states(balancer) == ["running", "retired"], "it is not replaced")
            for client in held[1]:
                client.read_to_end()
            talkers.wait_rounds()
            visitors.wait_since(time.monotonic(), 20)
        assert not talkers.error
        visitors.all_served(moment, 5)


def test_drain_timeout(run: Run, tables: Tables) -> None:
    """Who is still connected to a worker that goes is cut when `drain_timeout` is over; it ends."""
    balancer = run(tables(drain_timeout="1s"))
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        balancer.signal(signal.SIGTTOU)
        moment = time.monotonic()
        for client in held[1]:
            client.read_to_end()
        assert 0.5 < time.monotonic() - moment < 6
        wait_until(lambda: states(balancer) == ["running", "retired"], "it has ended")
        assert {balancer.line(client)["termination"] for client in held[1]} == {"shutdown"}
        for client in held[0]:
            client.ping()


def test_the_only_sibling_dies(run: Run, tables: Tables) -> None:
    """With one slot retired the last worker is killed: nobody is refused, its successor serves both slots."""
    balancer = run(tables())
    fewer(balancer, 1)
    wait_until(lambda: states(balancer) == ["running", "retired"], "it has retired")
    with Visitors(partial(PlainClient, balancer.port("plain"))) as visitors:
        visitors.wait_since(0)
        moment = end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_started", worker=0)
        visitors.wait_since(time.monotonic(), 40)
    visitors.all_served(moment, 3)


def test_reload_with_a_retired_slot(run: Run, tables: Tables) -> None:
    """A listener that is added while a slot is retired is served for that slot too, and by its next worker."""
    base = tables()
    balancer = run(base)
    fewer(balancer, 1)
    wait_until(lambda: states(balancer) == ["running", "retired"], "it has retired")
    balancer.rewrite(changed(base, new=plain_listener()))
    balancer.reload()
    visit = partial(PlainClient, balancer.port("new"))
    for _ in range(20):
        with closing(visit()) as client:
            client.ping(timeout=2)
    more(balancer, 1)
    with ExitStack() as stack:
        spread(stack, visit, balancer, 1)


def test_by_reload(run: Run, tables: Tables) -> None:
    """`workers` in the file, changed: as many more or fewer; a number that was given by signals gives way to it."""
    base = tables(drain_timeout="60s")
    balancer = run(base)
    more(balancer, 1)
    with ExitStack() as stack:
        held = spread(stack, partial(PlainClient, balancer.port("plain")), balancer, 1)
        with Talkers([client for clients in held.values() for client in clients]) as talkers:
            for workers in (4, 1):
                balancer.rewrite({**base, "node": {**base["node"], "workers": workers}})
                balancer.reload()
                wait_until(lambda: states(balancer).count("running") == workers, f"{workers} workers")  # noqa: B023
                talkers.wait_rounds()
        assert not talkers.error
    wait_until(lambda: states(balancer) == ["running", "retired", "retired", "retired"], "the others end")


def test_more_in_the_middle_of_a_reload(run: Run, tables: Tables) -> None:
    """A worker that is wanted while a listener is being added serves the new one too; nobody waits in a queue of nobody."""
    base = tables()
    balancer = run(base)
    balancer.rewrite(changed(base, new=plain_listener()))
    with stopped(by_slot(balancer)[0]):
        balancer.signal(signal.SIGHUP)
        time.sleep(0.3)  # PREPARE is sent
        balancer.signal(signal.SIGTTIN)
        time.sleep(0.2)
    balancer.wait_event("reloaded")
    wait_until(lambda: states(balancer) == ["running"] * 3, "three workers")
    visit = partial(PlainClient, balancer.port("new"))
    with ExitStack() as stack:
        held = spread(stack, visit, balancer, 1)
        assert set(held) == {0, 1, 2}
        for _ in range(30):
            client = visit()
            stack.callback(client.close)
            client.ping(timeout=2)
        assert slot_of(balancer, client) in held


def test_a_later_worker_has_the_tickets(run: Run, tables: Tables, context: ssl.SSLContext) -> None:
    """A ticket from before is good at a worker that was added."""
    balancer = run(tables())
    with closing(tls_client(balancer.port(), context)) as client:
        client.ping()
        ticket = client.session
    more(balancer, 1)
    for _ in range(60):
        with closing(tls_client(balancer.port(), context, ticket)) as client:
            client.ping()
            assert client.resumed
            slot = slot_of(balancer, client)
        if slot == 2:
            return
    raise AssertionError("the new worker gets no connections")
