"""Health checks as the operator sees them: who gets connections, what the event log says, what a server notices.

The servers here serve all the time; what is switched off is a port beside theirs that is checked. So a connection that does
not come is the verdict's work, not that of a failed connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, Hanging
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.switched import Patients, wait_event
from tests.support.tls_client import connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OFTEN = {"interval": "1s", "connect_timeout": "1s"}


@pytest.fixture(scope="module")
def patients(use: Callable[[Any], Any]) -> Patients:
    return use(Patients("ab"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def local(use: Callable[[Any], Any], module_folder: Path) -> Backend:
    """A server on a UNIX socket."""
    server: Backend = use(Backend(backends.greet(b"u"), path=module_folder / "app.sock"))
    return server


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], patients: Patients, local: Backend
) -> Balancer:
    """A plain listener per group."""
    silent = use(Hanging())
    groups = {
        "two": server_group(*patients.entries(), health_check=patients.check()),
        "unchecked": server_group(
            silent.entry(name="s", weight=0), *patients.entries(), health_check={"enabled": False}
        ),
        "silent": server_group(silent.entry(name="s"), local.entry(name="u"), health_check=OFTEN),
    }
    return balancer_for({"listeners": {name: plain_listener(group=name) for name in groups}, "server_groups": groups})


def visits(balancer: Balancer, listener: str, count: int = 20) -> set[str]:
    """The names of the servers that answered."""
    names = set()
    for _ in range(count):
        with connect(balancer.port(listener)) as sock:
            names.add(sock.recv(1).decode())
    return names


def test_an_unhealthy_server_gets_no_new_connections(balancer: Balancer, patients: Patients) -> None:
    """Those that it has go on; when it answers again it gets new ones again."""
    for name in "ab":
        line = wait_event(balancer, "server_available", group="two", server=name)
        assert line.split()[1] == "info"
    assert visits(balancer, "two") == {"a", "b"}
    old = [connect(balancer.port("two")) for _ in range(4)]
    assert {sock.recv(1).decode() for sock in old} == {"a", "b"}

    patients.health["b"].down()
    line = wait_event(balancer, "server_unhealthy", group="two", server="b", reason="CONNECT_FAILED")
    address, port = patients.servers["b"].address, patients.check_port
    assert line.split(" ", 1)[1] == (
        f"warning server_unhealthy group=two server=b address={address} checked=127.0.0.2:{port} "
        'reason=CONNECT_FAILED error="connection refused"'
    )
    assert visits(balancer, "two") == {"a"}
    for sock in old:
        with sock:
            sock.sendall(b"still here")
            assert sock.recv(10) == b"still here"

    seen = len(balancer.events())
    patients.health["b"].up()
    wait_event(balancer, "server_available", since=seen, group="two", server="b")
    assert visits(balancer, "two") == {"a", "b"}
    assert not [line for line in balancer.events() if "group=two" in line and "group_" in line], "one was always usable"


def test_a_server_that_does_not_answer(balancer: Balancer) -> None:
    """After the verdict nobody waits for it any more."""
    line = wait_event(balancer, "server_unhealthy", group="silent", server="s", reason="CONNECT_TIMEOUT")
    assert line.endswith('error="connection timed out"')
    since = balancer.access.mark()
    assert visits(balancer, "silent") == {"u"}
    lines = balancer.access.wait_count(20, since=since, listener="silent")
    assert max(one["connect_time_ms"] for one in lines) < 500


def test_a_unix_server_is_checked(balancer: Balancer, local: Backend) -> None:
    wait_event(balancer, "server_available", group="silent", server="u")
    local.wait_accepted(local.accepted + 1)


def test_without_checks_all_servers_are_used(balancer: Balancer, patients: Patients) -> None:
    """And nothing is said about them."""
    patients.health["a"].wait_accepted(2)
    assert visits(balancer, "unchecked") == {"a", "b"}
    assert not [line for line in balancer.events() if "group=unchecked" in line]


def test_a_server_sees_a_connection_and_its_reset(balancer: Balancer, patients: Patients) -> None:
    """As NLB checks; none of it is in the access log, none of it is a connection of a client's."""
    health = patients.health["a"]
    health.wait_accepted(health.accepted + 1)
    health.wait_finished()
    assert {seen.end for seen in health.connections} == {"reset"}
    assert health.received == 0


def test_the_prober_is_replaced_and_goes_on_from_what_it_knew(tmp_path: Path) -> None:
    """Killed while b is ill: b stays ill, clients notice nothing, and b is found well again by the new one."""
    patients = Patients("ab")
    patients.health["b"].down()
    groups = {"app": server_group(*patients.entries(), health_check=patients.check())}
    with Balancer(tmp_path, {"listeners": {"web": plain_listener()}, "server_groups": groups}) as balancer:
        wait_event(balancer, "server_available", server="a")
        wait_event(balancer, "server_unhealthy", server="b")
        seen = len(balancer.events())
        (first,) = probers(balancer)
        first.kill()
        wait_until(lambda: [one for one in probers(balancer) if one.pid != first.pid], "a new prober", 10)
        health = patients.health["a"]
        health.wait_accepted(health.accepted + 1)
        assert visits(balancer, "web") == {"a"}
        patients.health["b"].up()
        wait_event(balancer, "server_available", since=seen, server="b")
        assert visits(balancer, "web") == {"a", "b"}
        told = [line.split()[2] for line in balancer.events()[seen:] if "server=" in line]
        assert told == ["server_available"], "the new one tells what has changed and nothing else"
    patients.close()


def probers(balancer: Balancer) -> list[Any]:
    return balancer.titled("nlb: prober")
