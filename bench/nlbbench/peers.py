"""A proxy that is being measured: started, checked and stopped by us, or already running at an address.

Checked means: a client with a certificate gets an answer from the server behind it, over the version, suite and group that
all have; and a client without a certificate gets none. A proxy that does not do that is left out, whatever it would score.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from nlbbench import accounting
from nlbbench.guard import Guarded
from nlbbench.material import NAME, Material
from nlbbench.proxies import GROUP, SUITE, VERSION, Kind, Order
from nlbcore.errors import NlbError

START = 30.0
"""Seconds in which a proxy must have come up."""
ANSWER = 10.0
"""Seconds for one step of a check."""
QUESTION = struct.pack(">QQ", 0, 1) + b"\0"
"""Each of our backends answers it: 17 bytes for the echo, one byte wanted from the source, one byte given to the sink."""


class Unfit(NlbError):  # noqa: N818 - it is the proxy that is
    """A proxy that does not come up, or does something else than it is told: there is nothing to compare."""


@dataclass
class Peer:
    """A proxy under its name, at an address."""

    name: str
    address: str
    """HOST:PORT"""
    running: Guarded | None = None
    """What we have started; None: somebody else has."""
    order: Order | None = None
    kind: Kind | None = None
    pid: int | None = None
    """Of a proxy that somebody else has started, for the accounting."""
    tls: bool = True

    @property
    def roots(self) -> tuple[int, ...]:
        """Processes whose trees are this proxy's; none: its CPU time and memory cannot be told. The guard is one of them: it
        inherits what has ended.
        """
        if self.running is not None:
            return (self.running.guard,)
        return () if self.pid is None else (self.pid,)

    def processes(self) -> list[int]:
        """The proxy's own, for its memory: without the guard."""
        found = accounting.tree(*self.roots)
        return [pid for pid in found if self.running is None or pid != self.running.guard]

    def reload(self, renewed: tuple[Path, Path]) -> None:
        """Give it another server certificate, the way that it has for that.

        Raises:
            NlbError: it is not ours, or does not heed the signal (HAProxy's master does so a little later than its worker
                accepts connections, and before that the signal is lost)
        """
        if self.running is None or self.order is None or self.kind is None:
            raise NlbError("it was not started here: it cannot be reloaded")
        self.order.place(*renewed)
        deadline = time.monotonic() + ANSWER
        while not _catches(self.running.pid, self.kind.reload):
            if time.monotonic() > deadline:
                raise NlbError(f"it does not heed {self.kind.reload.name}")
            time.sleep(0.005)
        os.kill(self.running.pid, self.kind.reload)

    def can_lose_a_worker(self) -> None:
        """Raises NlbError: it has none that can be spared."""
        if self.running is None or self.kind is None or not self.kind.worker:
            raise NlbError("it was not started here" if self.kind is None else self.kind.no_worker)

    def kill_worker(self) -> None:
        """SIGKILL for the worker that has done most so far.

        Raises:
            NlbError: it has none that can be spared
        """
        self.can_lose_a_worker()
        assert self.running is not None
        assert self.kind is not None
        workers = [
            one.pid
            for one in self.running.processes()
            if one.pid != self.running.pid and re.search(self.kind.worker, _command_line(one.pid))
        ]
        if not workers:
            raise NlbError("no worker of it is running")
        os.kill(max(workers, key=accounting.cpu_clock), signal.SIGKILL)

    def stop(self) -> None:
        """End it, if it is ours."""
        if self.running is not None:
            self.running.stop()


def start(name: str, kind: Kind, binary: Path, order: Order) -> Peer:
    """Start a proxy and wait until it does what it is to do.

    Args:
        name: of the peer
        kind: what it is
        binary: its program
        order: what it is to do; its folder is made

    Raises:
        Unfit: it does not come up, or does something else; with what it said
    """
    order.folder.mkdir(mode=0o700, parents=True)
    order.place(order.material.server, order.material.server_key)
    command = [str(binary), *kind.configure(order)]
    running = Guarded(command, order.folder / "output", cwd=order.folder, processors=order.processors)
    peer = Peer(name, f"127.0.0.1:{order.port}", running, order, kind, tls=order.tls)
    try:
        _await(peer, running)
        check(peer, order.material)
    except BaseException as error:
        running.stop()
        if isinstance(error, NlbError):
            said = running.output().strip()
            raise Unfit(f"{error}{': ' + said[-500:] if said else ''}") from None
        raise
    return peer


def check(peer: Peer, material: Material) -> None:
    """One client that must be let in, and one that must not.

    Raises:
        NlbError: it is the other way round, or TLS is not the agreed one
    """
    if not peer.tls:
        with _connected(peer.address) as plain:
            plain.sendall(QUESTION)
            if not plain.recv(1):
                raise NlbError(f"{peer.name} does not relay")
        return
    if (problem := _visit(peer.address, client_context(material, certificate=True))) is not None:
        raise NlbError(f"{peer.name} does not let the client in: {problem}")
    if _visit(peer.address, client_context(material, certificate=False)) is None:
        raise NlbError(f"{peer.name} lets a client without a certificate in")


def client_context(material: Material, *, certificate: bool) -> ssl.SSLContext:
    """What a client of the comparison offers: one version, one suite, one group."""
    context = ssl.create_default_context(cafile=str(material.root))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve(GROUP)
    if certificate:
        context.load_cert_chain(material.client, material.client_key)
    return context


def shows(peer: Peer, material: Material, certificate: Path, patience: float = 5.0) -> bool:
    """Whether a new client is shown this certificate, now or soon; some reset connections while they reload."""
    wanted = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
    context = client_context(material, certificate=True)
    deadline = time.monotonic() + patience
    while True:
        with (
            contextlib.suppress(OSError),
            _connected(peer.address) as raw,
            context.wrap_socket(raw, server_hostname=NAME) as connection,
        ):
            if connection.getpeercert(binary_form=True) == wanted:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, below those that the kernel gives to outgoing connections."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for port in random.sample(range(10_000, max(low, 12_000)), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NlbError(f"no free port between 10000 and {max(low, 12_000)}")


def _await(peer: Peer, running: Guarded) -> None:
    """Until it listens."""
    deadline = time.monotonic() + START
    while running.alive():
        with contextlib.suppress(OSError), _connected(peer.address):
            return
        if time.monotonic() > deadline:
            raise NlbError(f"{peer.name} does not listen within {START:.0f} s")
        time.sleep(0.02)
    raise NlbError(f"{peer.name} has ended at its start")


def _visit(address: str, context: ssl.SSLContext) -> str | None:
    """Ask the server behind; None when it has answered, else what happened."""
    try:
        with _connected(address) as raw, context.wrap_socket(raw, server_hostname=NAME) as connection:
            connection.sendall(QUESTION)
            answer = connection.recv(1)
            cipher = connection.cipher()
            if not answer:
                return "the connection was closed"
            if (connection.version(), cipher and cipher[0]) != (f"TLSv{VERSION}", SUITE):
                return f"it negotiates {connection.version()} {cipher and cipher[0]}, not TLSv{VERSION} {SUITE}"
            return None
    except OSError as error:
        return str(error)


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    with contextlib.suppress(OSError):
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
    return False


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
