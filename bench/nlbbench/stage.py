"""Where a comparison takes place: certificates, servers, and the proxies in front of them, started when they are needed.

A proxy that carries steady load is started once for each kind of server behind it and stays; one for a measurement of
memory or an event is started anew each time and stopped afterwards. Everything ends with the stage.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nlbbench import peers, proxies
from nlbbench.apart import Apart, kept_to
from nlbbench.backends import Server, serve
from nlbbench.material import Material
from nlbbench.peers import Peer
from nlbbench.proxies import Kind, Order
from nlbbench.results import RELAY, Contestant
from nlbbench.spec import Backend
from nlbcore.errors import NlbError


@dataclass(frozen=True)
class Candidate:
    """A proxy that is to be measured."""

    name: str
    kind: Kind | None = None
    """None: it is running already, at `address`."""
    binary: Path | None = None
    address: str = ""
    pid: int | None = None
    tls: bool = True
    workers: int = 0
    """Its own number of them; 0: the stage's."""

    def introduce(self) -> Contestant:
        """What there is to say about it.

        Raises:
            NlbError: its program does not run
        """
        if self.kind is None or self.binary is None:
            return Contestant(self.name, f"{self.name} ({self.address})", "address", note="was running already")
        build = proxies.build(self.kind, self.binary)
        if not self.tls:
            return Contestant(self.name, "plain relay", RELAY, build.version, note="nlb's TCP listener, without TLS")
        title = self.name.replace(self.kind.name, self.kind.title, 1)
        own = f"{self.workers} worker{'' if self.workers == 1 else 's'}" if self.workers else ""
        note = "; ".join(part for part in (own, self.kind.note) if part)
        return Contestant(self.name, title, self.kind.name, build.version, build.library, note)


class Stage:
    """Use it as a context; `folder` is the comparison's own. Its clients and servers run beside the proxies' processors."""

    def __init__(self, folder: Path, material: Material, workers: int, servers: dict[Backend, str]) -> None:
        self.material = material
        self.workers = workers
        self.apart = Apart(workers)
        self._folder = folder
        self._given = servers
        self._numbers = itertools.count(1)
        self._standing: dict[tuple[str, Backend], Peer] = {}
        self._servers: dict[Backend, Server] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(kept_to(self.apart.others))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, backend: Backend) -> str:
        """The address of a server of that kind: the given one, or ours."""
        if backend in self._given:
            return self._given[backend]
        if backend not in self._servers:
            self._servers[backend] = self._stack.enter_context(serve(backend))
        return self._servers[backend].address

    def standing(self, candidate: Candidate, backend: Backend) -> Peer:
        """The proxy before a server of that kind; it stays.

        Raises:
            NlbError: it does not come up, or does something else than it should
        """
        key = candidate.name, backend
        if key not in self._standing:
            peer = self._start(candidate, (self.server(backend),), backend)
            self._stack.callback(peer.stop)
            self._standing[key] = peer
        return self._standing[key]

    @contextlib.contextmanager
    def fresh(self, candidate: Candidate, backend: Backend, *, workers: int = 1) -> Iterator[Peer]:
        """One that was just started, with so many workers at least, and is stopped at the end."""
        peer = self._start(candidate, (self.server(backend),), backend, workers)
        try:
            yield peer
        finally:
            peer.stop()

    @contextlib.contextmanager
    def before_two(self, candidate: Candidate, backend: Backend) -> Iterator[tuple[Peer, Callable[[], None]]]:
        """One before two servers of its own, and how the first of these is lost: it ends, and nobody listens there any more."""
        if candidate.kind is not None and candidate.kind.servers < 2:
            raise NlbError("it can have one server only")
        with contextlib.ExitStack() as first, serve(backend) as second:
            servers = first.enter_context(serve(backend)).address, second.address
            peer = self._start(candidate, servers, backend)
            try:
                yield peer, first.close
            finally:
                peer.stop()

    def workers_of(self, candidate: Candidate) -> int:
        """How many it has."""
        return candidate.workers or self.workers

    def _start(self, candidate: Candidate, servers: tuple[str, ...], backend: Backend, least: int = 1) -> Peer:
        if candidate.kind is None or candidate.binary is None:
            if backend is not Backend.ECHO or len(servers) > 1:
                raise NlbError("it was not started here: it has an echo behind it, and nothing else")
            peer = Peer(candidate.name, candidate.address, pid=candidate.pid)
            peers.check(peer, self.material)
            return peer
        folder = self._folder / f"{next(self._numbers)}-{candidate.name}"
        workers = max(least, self.workers_of(candidate))
        order = Order(
            *(folder, peers.free_port(), servers, self.material, workers),
            tls=candidate.tls,
            processors=self.apart.own(workers),
        )
        return peers.start(candidate.name, candidate.kind, candidate.binary, order)
