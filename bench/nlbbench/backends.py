"""Servers of our own behind what is measured, each in processes of its own: `with serve(Backend.ECHO) as server: ...`.

They are started with exec, hold one listening socket together, and end with the caller. `nlb bench backend` runs one in the
foreground.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nlbbench.backend import serve_for_ever
from nlbbench.client import LoadError
from nlbbench.spec import Backend
from nlbcore.address import Endpoint

QUEUE = 4096
"""Length of the listening queue; the kernel's limit (net.core.somaxconn) holds too."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    kind: Backend
    """What it does."""
    address: str
    """Where it listens, with the port that it got."""
    pids: tuple[int, ...]
    """Its processes."""

    def cpu(self) -> float:
        """CPU seconds (user and system) of its processes so far."""
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self.pids) / 1e9


@contextlib.contextmanager
def serve(
    kind: Backend,
    address: str = "127.0.0.1:0",
    *,
    processes: int = 1,
    delay: float = 0.0,
    chunk: int = 0,
) -> Iterator[Server]:
    """A server for as long as the block lasts.

    Args:
        kind: what it does.
        address: where it listens; port 0 for a free one.
        processes: how many share the socket.
        delay: SLOW: seconds between bytes that have come and reading them.
        chunk: SLOW: how many bytes are read then; 0 for as many as there are.

    Raises:
        LoadError: the address cannot be used
    """
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(address))
        started = [_start(listening, kind, delay, chunk) for _ in range(processes)]
        for one in started:
            stack.callback(_stop, one)
        yield Server(kind, address_of(listening), tuple(one.pid for one in started))


def listen(address: str) -> socket.socket:
    """A listening socket.

    Raises:
        LoadError: the address cannot be used; with the reason
    """
    try:
        endpoint = Endpoint.parse(address.removesuffix(":0") + ":1" if address.endswith(":0") else address)
        if endpoint.systemd is not None:
            raise LoadError(f"{address}: not a place to listen on")
        where = endpoint.sockaddr()
    except ValueError as error:
        raise LoadError(str(error)) from None
    if address.endswith(":0") and not isinstance(where, str):
        where = (where[0], 0, *where[2:])
    made = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if endpoint.family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(QUEUE)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise LoadError(f"{address}: {error.strerror}") from None
    return made


def address_of(listening: socket.socket) -> str:
    """As `Target.address` and a configuration take it."""
    name = listening.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _start(listening: socket.socket, kind: Backend, delay: float, chunk: int) -> subprocess.Popen[bytes]:
    descriptor = listening.fileno()
    words = [str(descriptor), kind.value, str(int(delay * 1e9)), str(chunk), str(os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "nlbbench.backends", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        process_group=0,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def main(descriptor: int, kind: Backend, delay: int, chunk: int, parent: int) -> None:
    """A process of a server: serve until it is killed, or its parent is gone."""
    if os.getppid() != parent:  # it has died before this process could ask to be told of it
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    serve_for_ever(descriptor, list(Backend).index(kind), delay, chunk)


if __name__ == "__main__":
    main(int(sys.argv[1]), Backend(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
