"""`nlb stop`: it drains, or cuts with --now, and returns when the balancer has gone; then another one can start."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend
from tests.support.balancer import NLB, Balancer, nlb, plain_listener, server_group
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def backend(use: Callable[[Any], Any]) -> Backend:
    server: Backend = use(Backend())
    return server


@pytest.fixture
def balancer(tmp_path: Path, backend: Backend) -> Balancer:
    configuration = {
        "node": {"drain_timeout": "60s"},
        "listeners": {"web": plain_listener()},
        "server_groups": {"app": server_group(backend)},
    }
    return Balancer(tmp_path, configuration)


def connect(balancer: Balancer) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", balancer.port()), 5)
    client.sendall(b"hello")
    assert client.recv(5) == b"hello"
    return client


def test_stop_and_start_again(balancer: Balancer) -> None:
    """The process is gone when the command returns: its ports, its socket and its lock are free at once.

    The first one is killed: what it leaves behind stops nobody.
    """
    balancer.start()
    balancer.kill()
    assert balancer.control_socket.is_socket()
    assert nlb("stop", "-c", balancer.path).returncode == 69
    for _ in range(2):
        balancer.start()
        done = nlb("stop", "-c", balancer.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"the balancer at {balancer.control_socket} has stopped\n"
        assert balancer.exit_code == 0
        balancer.wait_exit()
        assert not balancer.control_socket.exists()
        assert not balancer.control_socket.with_name("nlb.sock.lock").exists()


def test_connections_may_finish(balancer: Balancer) -> None:
    """The command waits as long as they do, and the balancer answers meanwhile."""
    balancer.start()
    with connect(balancer) as client:
        stopping = subprocess.Popen([NLB, "stop", "-c", balancer.path], stdout=subprocess.PIPE, text=True)
        check = ("status", "--check", "-c", balancer.path)
        wait_until(lambda: "the balancer is draining" in nlb(*check).stdout, "a balancer that drains")
        assert stopping.poll() is None
        client.sendall(b"still")
        assert client.recv(5) == b"still"
    assert stopping.communicate(timeout=10)[0] == f"the balancer at {balancer.control_socket} has stopped\n"
    assert stopping.returncode == 0
    balancer.wait_exit()


def test_now(balancer: Balancer) -> None:
    """Also where another `nlb stop` waits already; both return."""
    balancer.start()
    with connect(balancer) as client:
        stopping = subprocess.Popen([NLB, "stop", "-c", balancer.path], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: nlb("status", "--check", "-c", balancer.path).returncode == 1, "a balancer that drains")
        started = time.monotonic()
        done = nlb("stop", "--now", "--socket", balancer.control_socket)
        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - started < 5
        assert client.recv(5) == b""
    assert "has stopped" in stopping.communicate(timeout=10)[0]
    balancer.wait_exit()


def test_json(balancer: Balancer) -> None:
    balancer.start()
    done = nlb("stop", "--json", "-c", balancer.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"control_socket": str(balancer.control_socket), "stopped": True}
    balancer.wait_exit()


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_no_balancer(tmp_path: Path, option: tuple[str, ...]) -> None:
    done = nlb("stop", "--socket", "nlb.sock", *option, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (69, "", "nlb: no running balancer at nlb.sock\n")


def test_a_second_balancer_with_the_same_socket(balancer: Balancer) -> None:
    with balancer:
        done = nlb("run", "-c", balancer.path)
        assert (done.returncode, done.stdout) == (1, "")
        expected = (
            f"nlb: another nlb is running (pid {balancer.pid}), it answers at {balancer.control_socket}: "
            "stop it with `nlb stop`, or give this one a [node] control_socket of its own\n"
        )
        assert done.stderr == expected
        assert nlb("status", "--check", "-c", balancer.path).returncode == 0
