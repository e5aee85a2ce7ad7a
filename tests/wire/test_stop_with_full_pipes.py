"""TERM ends it also when nobody reads its output: a full pipe as stdout (access log) or as stderr (event log)."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backends import Backend

SMALLEST_PIPE = 4096
SOON = 8.0


@contextmanager
def pipe(path: Path) -> Iterator[int]:
    """A named pipe of the smallest size; its descriptor here reads and writes without waiting."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        yield descriptor
    finally:
        os.close(descriptor)


def fill(descriptor: int) -> None:
    """Write until not one byte more fits."""
    for size in (1000, 1):
        try:
            while True:
                os.write(descriptor, b"x" * size)
        except BlockingIOError:
            continue


def make(folder: Path, backend: Backend, log: dict[str, Any], redirect: str) -> Balancer:
    """A balancer with one of its outputs redirected by a shell, which it then replaces."""
    return Balancer(
        folder,
        {"log": log, "listeners": {"web": plain_listener()}, "server_groups": {"app": server_group(backend)}},
        prefix=("sh", "-c", f'exec "$0" "$@" {redirect}'),
    )


def ends_soon(balancer: Balancer) -> None:
    """TERM: exit code 0 and no process left, before long."""
    start = time.monotonic()
    balancer.signal(signal.SIGTERM)
    balancer.wait_exit(0, SOON)
    assert time.monotonic() - start < SOON


def test_stdout(tmp_path: Path, backend: Backend) -> None:
    """Lines of the access log wait to be written."""
    with pipe(tmp_path / "pipe") as descriptor:
        balancer = make(tmp_path, backend, {"access": "stdout"}, f">{tmp_path / 'pipe'}").start()
        fill(descriptor)
        for _ in range(20):
            with connect(balancer.port()) as client:
                client.sendall(b"ping")
                assert client.recv(10) == b"ping"
        backend.wait_finished()
        time.sleep(0.3)  # the log writer gets to its write; nothing shows it
        ends_soon(balancer)


def test_stderr(tmp_path: Path, backend: Backend) -> None:
    """The event log's last words wait to be written."""
    with pipe(tmp_path / "pipe") as descriptor:
        balancer = make(tmp_path, backend, {"file": "stderr"}, f"2>{tmp_path / 'pipe'}").launch()
        try:
            said = bytearray()
            wait_until(lambda: b" ready " in read(descriptor, said), lambda: f"`ready` in {bytes(said)!r}", 15)
            wait_until(balancer.workers, "a worker", 15)
            balancer._family = balancer.processes()
            fill(descriptor)
            ends_soon(balancer)
        finally:
            balancer.kill()


def read(descriptor: int, said: bytearray) -> bytearray:
    """Add what there is to what was said before."""
    with suppress(BlockingIOError):
        said += os.read(descriptor, 65536)
    return said
