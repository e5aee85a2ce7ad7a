"""What an operator does to a running balancer: takes servers out and puts them back, looks who is connected, ends connections,
changes the log level. Each with the command, at two workers, under a client that must not notice.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.waiting import stays, wait_until
from tests.support.workers import Greeted, Talkers, by_slot, end, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.support.certs import Pki
    from tests.support.reloading import Tables


@pytest.fixture(scope="module")
def base(use: Callable[[Any], Any], backend: Backend, pki: Pki) -> Tables:
    """Servers a and b that greet with their names, and an echo server behind mutual TLS."""
    servers = [use(Backend(greet(name))).entry(name=name.decode()) for name in (b"a", b"b")]
    return {
        "node": {"workers": 2},
        "listeners": {"plain": plain_listener(group="ab"), "web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {
            "ab": server_group(*servers, connection_drain_timeout="1s"),
            "app": server_group(backend.entry(name="echo")),
        },
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(running: Balancer) -> Iterator[Balancer]:
    """Afterwards all servers are as the file says."""
    yield running
    for server in "ab":
        running.ask("server", server_group="ab", server=server, do="ready")
        running.ask("server", server_group="ab", server=server, do="weight", weight=100)


def command(balancer: Balancer, *words: str) -> Any:
    """Run `nlb WORDS --json`, which must go well; what it answers."""
    done = nlb(*words, "--json", "--socket", balancer.control_socket)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def order(balancer: Balancer, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = command(balancer, "server", *words)
    return answer


def server(balancer: Balancer, name: str) -> dict[str, Any]:
    """What the status says of a server."""
    group = balancer.ask("status")["server_groups"][0]
    (found,) = (one for one in group["servers"] if one["name"] == name)
    return found  # type: ignore[no-any-return]


def visits(balancer: Balancer, count: int = 8) -> Counter[str]:
    """Which servers new clients get."""
    found: Counter[str] = Counter()
    for _ in range(count):
        with closing(Greeted(balancer.port("plain"))) as client:
            found[client.server] += 1
    return found


def one_of_each(stack: ExitStack, balancer: Balancer) -> dict[str, Greeted]:
    """A client of each server."""
    held = spread(stack, partial(Greeted, balancer.port("plain")), balancer, 2)
    return {client.server: client for clients in held.values() for client in clients}


def test_drain_and_ready(balancer: Balancer) -> None:
    """No new connections at once; live ones are cut as `drained` when the group's time is over; `ready` puts it back."""
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        answer = order(balancer, "drain", "ab/a")
        assert (answer["admin"], answer["weight"]) == ("drain", 100)
        assert answer["connections"] >= 1
        live["a"].ping(b"still here" * 1000)
        assert visits(balancer) == {"b": 8}
        assert server(balancer, "a")["state"] == "Draining"
        live["a"].read_to_end(5)
        assert balancer.line(live["a"])["termination"] == "drained"
        live["b"].ping()
    assert order(balancer, "ready", "ab/a")["admin"] == "ready"
    assert set(visits(balancer)) == {"a", "b"}


def test_ready_before_the_end(balancer: Balancer) -> None:
    """Put back while it drains: nobody is cut."""
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        order(balancer, "drain", "ab/a")
        order(balancer, "ready", "ab/a")
        stays(lambda: live["a"].ping() < 5, "the live connection", 1.5)


def test_maint(balancer: Balancer) -> None:
    """Live ones are cut at once."""
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        assert order(balancer, "maint", "ab/b")["admin"] == "maint"
        live["b"].read_to_end(3)
        assert balancer.line(live["b"])["termination"] == "drained"
        assert visits(balancer) == {"a": 8}
        live["a"].ping()


def test_weight(balancer: Balancer) -> None:
    """In the new ratio, at both workers; 0 is none at all, and live ones go on."""
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        assert order(balancer, "weight", "ab/a", "25")["weight"] == 25
        order(balancer, "weight", "ab/b", "75")
        found = visits(balancer, 40)
        assert 5 <= found["a"] <= 15, found
        order(balancer, "weight", "ab/a", "0")
        assert visits(balancer) == {"b": 8}
        live["a"].ping(b"still here" * 1000)
    assert (server(balancer, "a")["weight"], server(balancer, "a")["configured_weight"]) == (0, 100)


def test_kept_by_reloads_and_restarts(balancer: Balancer, base: Tables) -> None:
    """An order outlives a worker and a reload of other things; a reload that changes the weight in the file wins over the
    weight that was given.
    """
    order(balancer, "drain", "ab/a")
    order(balancer, "weight", "ab/b", "7")
    balancer.restarts_expected = True
    mark = len(balancer.events())
    end(by_slot(balancer)[0], signal.SIGKILL)
    balancer.wait_event("worker_started", since=mark, worker=0)
    assert visits(balancer) == {"b": 8}
    new = {**base, "listeners": {**base["listeners"], "plain": {**base["listeners"]["plain"], "cps": 100_000}}}
    balancer.rewrite(new)
    balancer.reload()
    assert visits(balancer) == {"b": 8}
    assert (server(balancer, "a")["admin"], server(balancer, "b")["weight"]) == ("drain", 7)
    a, b = base["server_groups"]["ab"]["servers"]
    group = {**base["server_groups"]["ab"], "servers": [a, {**b, "weight": 50}]}
    balancer.rewrite({**new, "server_groups": {**base["server_groups"], "ab": group}})
    balancer.reload()
    assert (server(balancer, "a")["admin"], server(balancer, "b")["weight"]) == ("drain", 50)
    balancer.rewrite(base)
    balancer.reload()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drain", "ab/c"), 'no server "c" in ab'),
        (("drain", "xy/a"), 'no server group "xy"'),
        (("weight", "ab/c", "1"), 'no server "c"'),
    ],
)
def test_unknown(balancer: Balancer, words: tuple[str, ...], said: str) -> None:
    """Refused with what there is."""
    done = nlb("server", *words, "--socket", balancer.control_socket)
    assert done.returncode == 1
    assert said in done.stderr
    assert "there is" in done.stderr


def test_conns(balancer: Balancer, context: ssl.SSLContext, pki: Pki) -> None:
    """All live connections of both workers, with the identities of their clients; those that one asks for only."""
    with ExitStack() as stack:
        plain = spread(stack, partial(Greeted, balancer.port("plain")), balancer, 1)
        web = spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)
        shown = {(one["listener"], one["client_port"]): one for one in command(balancer, "conns")}
        for name, held in (("plain", plain), ("web", web)):
            for slot, clients in held.items():
                for client in clients:
                    one = shown[name, client.port]
                    assert (one["worker"], one["state"]) == (slot, "relay")
        clients = [*web[0], *web[1]]
        one = shown["web", clients[0].port]
        assert one["client_cert_sha256"].replace(":", "").lower() == pki.client.sha256
        assert (one["server"], one["received_bytes"], one["sent_bytes"]) == ("echo", 4, 4)
        only = command(balancer, "conns", "--listener", "web")
        assert {one["client_port"] for one in only} == {client.port for client in clients}


def test_kill(balancer: Balancer, context: ssl.SSLContext) -> None:
    """By number, by server, by filter: those are ended at once, as `killed`; the others talk on."""
    with ExitStack() as stack:
        live = one_of_each(stack, balancer)
        web = spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)
        victim = web[0][0]
        (number,) = (one["connection"] for one in command(balancer, "conns") if one["client_port"] == victim.port)
        with Talkers([live["b"], *web[1]]) as talkers:
            assert command(balancer, "kill", str(number)) == {"killed": 1}
            victim.read_to_end(3)
            assert balancer.line(victim)["termination"] == "killed"
            assert command(balancer, "kill", "--server", "ab/a")["killed"] >= 1
            live["a"].read_to_end(3)
            talkers.wait_rounds()
        assert not talkers.error
        assert command(balancer, "kill", "--all")["killed"] >= 2
        live["b"].read_to_end(3)
    done = nlb("kill", str(number), "--socket", balancer.control_socket)
    assert (done.returncode, done.stderr) == (1, "nlb: there is no such connection\n")


def test_log_level(balancer: Balancer) -> None:
    """Shown and changed at run time; a reload that does not change it in the file leaves it."""
    assert command(balancer, "log", "level") == {"level": "info", "was": "info"}
    assert command(balancer, "log", "level", "error") == {"level": "error", "was": "info"}
    mark = len(balancer.events())
    balancer.reload()
    assert not balancer.find_events("reloaded", since=mark)
    assert command(balancer, "log", "level", "info") == {"level": "info", "was": "error"}
    balancer.reload()
    wait_until(lambda: balancer.find_events("reloaded", since=mark), "it is logged again")
