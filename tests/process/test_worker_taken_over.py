"""A worker reads what strangers send, so it may have been taken over: whatever it says on its channel or writes into the
segment, the supervisor and the other worker go on. The test says it with the worker's own descriptors (pidfd_getfd).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.segment import HEADER, SHARED, Segment
from tests.support.waiting import wait_until
from tests.support.workers import PlainClient, by_slot, successor

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from tests.support.balancer import Balancer

    Run = Callable[..., Balancer]
    Tables = Callable[..., dict[str, Any]]

PIDFD_GETFD = 438


def taken(process: psutil.Process, descriptor: int) -> int:
    """A descriptor of another process, as one of ours."""
    if os.geteuid() != 0:
        pytest.skip("only root may take other processes' descriptors")
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(process.pid)
    fd: int = libc.syscall(PIDFD_GETFD, pidfd, descriptor, 0)
    os.close(pidfd)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd


def targets(process: psutil.Process) -> dict[int, str]:
    folder = f"/proc/{process.pid}/fd"
    return {int(name): os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}


def channel(process: psutil.Process) -> socket.socket:
    """The worker's end of its channel: its only SEQPACKET socket."""
    for descriptor, target in targets(process).items():
        if target.startswith("socket:"):
            made = socket.socket(fileno=taken(process, descriptor))
            if made.type == socket.SOCK_SEQPACKET:
                return made
            made.close()
    raise AssertionError("no channel")


@pytest.mark.parametrize(
    "said",
    [
        b"hello",
        b"[" * 60_000,
        b'{"command": "END", "generation": 1, "slot": 0, "reason": ""}',
        b'{"command": "DONE", "generation": 1, "slot": 0, "reason": ""}',
        b'{"command": "REFUSED", "generation": 1, "slot": 0, "reason": ""}',
        b'{"command": "DRAINED", "generation": 0, "slot": 0, "reason": ""}',
        b'{"command": "FAILED", "generation": 0, "slot": 99, "reason": ""}',
    ],
    ids=lambda said: said[:20].decode(),
)
def test_what_it_says(run: Run, tables: Tables, said: bytes) -> None:
    """What is no message, or one out of turn, is logged, and costs that worker its life; nobody else notices."""
    balancer = run(tables())
    victim, sibling = by_slot(balancer)[0], by_slot(balancer)[1]
    with closing(channel(victim)) as end:
        end.send(said)
    balancer.wait_event("worker_misbehaves", worker=0, pid=victim.pid)
    balancer.wait_event("worker_started", worker=0)
    assert by_slot(balancer)[1] == sibling
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()


def test_descriptors_it_sends(run: Run, tables: Tables) -> None:
    """The supervisor's table cannot be filled: none is taken."""
    balancer = run(tables())
    supervisor = balancer.processes()[0]
    before = supervisor.num_fds()
    for _ in range(3):
        victim = by_slot(balancer)[0]
        with closing(channel(victim)) as end:
            socket.send_fds(end, [b"hello"], [0, 1, 2])
        successor(balancer, "nlb: worker 0", victim)
    wait_until(lambda: supervisor.num_fds() <= before, "nothing is kept")


def test_what_it_writes(run: Run, tables: Tables) -> None:
    """Its block, full of random bytes: status, log writer and prober go on; the ground stays where it is."""
    balancer = run(tables())
    victim = by_slot(balancer)[0]
    (descriptor,) = [number for number, target in targets(victim).items() if "nlb-segment" in target]
    fd = taken(victim, descriptor)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    segment = Segment(fd)
    before = balancer.titled("nlb: log writer"), balancer.titled("nlb: prober")
    with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
        start = HEADER + SHARED
        size = ctypes.sizeof(segment.block(0))
        memory[start : start + size] = os.urandom(size)
    os.close(fd)
    del segment
    balancer.wait_event("record_unreadable", worker=0)
    assert balancer.status()["workers"][1]["state"] == "running"
    with closing(PlainClient(balancer.port("plain"))) as client:
        client.ping()
    assert (balancer.titled("nlb: log writer"), balancer.titled("nlb: prober")) == before
    assert len(balancer.find_events("record_unreadable")) < 10
