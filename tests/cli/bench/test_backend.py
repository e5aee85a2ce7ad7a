"""`nlb bench backend`: says where it listens, serves, and ends with Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from tests.support.balancer import NLB, nlb


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told(end: signal.Signals) -> None:
    program = subprocess.Popen(
        [NLB, "bench", "backend", "echo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    host, port = program.stdout.readline().strip().split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    program.send_signal(end)
    assert program.communicate(timeout=20) == ("", "")
    assert program.returncode == 0


def test_an_address_that_cannot_be_used() -> None:
    done = nlb("bench", "backend", "echo", "--listen", "192.0.2.1:1")
    assert done.returncode == 1
    assert done.stderr == "nlb: 192.0.2.1:1: Cannot assign requested address\n"
