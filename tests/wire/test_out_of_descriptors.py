"""A worker that has run out of descriptors: whoever comes then is closed, it says so once, does not spin, and recovers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context, connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

LIMIT = 64
BEYOND = 5
"""Clients that find none left: the pauses between them double from 5 ms."""


def is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture
def scarce(tmp_path: Path, backend: Backend, pki: Pki) -> Balancer:
    """One that may open few files, with a listener that waits for its clients to speak."""
    return Balancer(
        tmp_path,
        {
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path, handshake_timeout="60s")},
            "server_groups": {"app": server_group(backend)},
        },
        prefix=("sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh"),
    )


def said(balancer: Balancer) -> list[str]:
    return [line.partition(" ")[2] for line in balancer.events() if "accept_failed" in line]


def test_out_of_descriptors(scarce: Balancer, pki: Pki) -> None:
    context = client_context(pki.root.path, None, pki.client)
    with scarce, ExitStack() as stack:
        port = scarce.port()
        free = LIMIT - scarce.worker.num_fds()
        silent = [stack.enter_context(connect(port)) for _ in range(free)]
        wait_until(lambda: scarce.worker.num_fds() == LIMIT, "all descriptors are in use")
        beyond = [stack.enter_context(connect(port)) for _ in range(BEYOND)]
        for sock in beyond:
            wait_until(lambda sock=sock: is_closed(sock), "it is told")  # type: ignore[misc]
        assert not any(is_closed(sock) for sock in silent)
        waiting = [stack.enter_context(connect(port)) for _ in range(20)]
        before, begin = sum(scarce.worker.cpu_times()[:2]), time.monotonic()
        time.sleep(0.5)  # time is the behaviour
        assert sum(scarce.worker.cpu_times()[:2]) - before < (time.monotonic() - begin) / 4
        wait_until(lambda: said(scarce), "it says so", 3)
        assert said(scarce) == ['warning accept_failed error="too many open files"']
        for sock in (*silent, *beyond, *waiting):
            sock.close()
        with TlsClient(port, context) as client:
            client.handshake().ping()
        assert len(said(scarce)) == 1
