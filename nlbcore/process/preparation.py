"""A generation that a worker makes ready, in steps beside its work, so that COMMIT can put it in force without failing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nlbcore.engine.hooks import ListenerPlan
from nlbcore.engine.revoked import Table
from nlbcore.engine.rules import Rules
from nlbcore.pool.schedulers import Group, route_address
from nlbcore.process.proxy_protocol import proxy_protocol
from nlbcore.process.snapshot import Snapshot
from nlbcore.tls.context import (
    Front,
    ServerContexts,
    Settings,
    apply,
    blank,
    certificate_contexts,
    context_address,
    settings,
    store_address,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from OpenSSL import SSL

    from nlbcore.config.model import ClientAuth, Listener
    from nlbcore.engine.engine import Engine
    from nlbcore.tls.material import ListenerMaterial


NAMES = 128
"""Server names in a step."""


@dataclass(frozen=True)
class Trust:
    """Which clients a generation lets in, as far as OpenSSL verifies it."""

    mode: Literal["off", "optional", "required", "report"]
    depth: int
    strict: bool
    ca: frozenset[bytes]

    @classmethod
    def of(cls, auth: ClientAuth, material: ListenerMaterial) -> Trust:
        return cls(auth.mode, auth.depth, auth.strict, frozenset(material.ca))

    @property
    def verify(self) -> bool:
        """Whether somebody may be refused."""
        return self.mode in ("optional", "required")

    def lost(self, before: Trust | None) -> bool:
        """Whether a client of an earlier generation has to be verified again. Sessions of generations before the last one may
        still live, so where that one refused nobody, or was not there, nothing is known of them.
        """
        if not self.verify:
            return False
        if before is None or not before.verify:
            return True
        return self.depth < before.depth or self.strict > before.strict or not before.ca <= self.ca


@dataclass
class Contexts:
    """The certificate contexts of a listener.

    Attributes:
        made: all of them
        served: which is for whom; None before they are all made, and without TLS
    """

    made: list[SSL.Context]
    served: ServerContexts | None = None


class Preparation:
    """One such.

    Args:
        generation: its number
        slot: of the worker
        fronts: the front contexts, by row
        engine: where the listeners are made
        before: the trust of each listener now
        garbage: gets what is not wanted after all, to be freed in steps

    Attributes:
        ready: all steps are done
        wanted: False when another one, or none, comes into force
        settings: what is applied to the front context of each row
        numbers: the listeners in the engine
        addresses: which listener accepts at each address
        trust: of each listener
        busy_poll: the configuration lets workers keep a processor busy while they wait
    """

    def __init__(
        self,
        generation: int,
        slot: int,
        fronts: Sequence[SSL.Context],
        engine: Engine,
        before: Mapping[str, Trust],
        garbage: list[object],
    ) -> None:
        self.generation = generation
        self.ready = False
        self.wanted = True
        self.settings: dict[int, Settings] = {}
        self.numbers: dict[str, int] = {}
        self.addresses: dict[str, int] = {}
        self.trust: dict[str, Trust] = {}
        self.busy_poll = False
        self._slot = slot
        self._fronts = fronts
        self._engine = engine
        self._before = before
        self._garbage = garbage

    def drop(self) -> None:
        """It is not wanted: its own next step finds that out."""
        self.wanted = False
        for number in self.numbers.values():
            self._engine.forget(number)

    def steps(self, sealed: int) -> Generator[None, None, None]:
        """Everything that can fail: contexts, groups, and `apply()` tried on a blank context.

        Args:
            sealed: the generation, as a memfd that stays the caller's
        """
        snapshot = yield from Snapshot.reading(sealed)
        self.busy_poll = snapshot.config.node.busy_poll
        groups: dict[str, Group] = {}
        for name in snapshot.config.server_groups:
            groups[name] = self._group(snapshot, name)
            yield
        for name, listener in snapshot.config.listeners.items():
            wanted = None
            material = snapshot.material.listeners[name]
            trust = Trust.of(listener.client_auth, material)
            contexts = Contexts([])
            if listener.protocol == "TCPSSL":
                wanted = settings(name, listener, material, snapshot.config.security_policies)
                yield
                apply(blank(), wanted)
                yield
                yield from self._make(contexts, wanted, material)
            if not self.wanted:
                return
            plan = self._plan(snapshot, name, groups[listener.server_group], wanted, trust, contexts)
            if wanted is not None:
                self.settings[plan.row] = wanted
            self.numbers[name] = self._engine.add_listener(plan)
            yield from self._name(self.numbers[name], contexts)
            self.trust[name] = trust
            self.addresses.update((str(address), self.numbers[name]) for address in listener.bind)
            yield

    def _group(self, snapshot: Snapshot, name: str) -> Group:
        group = snapshot.config.server_groups[name]
        made = Group(
            [
                (
                    snapshot.rows.servers[name, server.name],
                    server.weight,
                    server.address.family,
                    server.address.sockaddr(),
                )
                for server in group.servers
            ],
            group.scheduler,
        )
        for _ in range(self._slot):  # else the first server would get the first connection of every worker
            made.choose()
        return made

    def _make(self, contexts: Contexts, wanted: Settings, material: ListenerMaterial) -> Generator[None, None, None]:
        """One context in a step, until they are not wanted any more."""
        steps = certificate_contexts(wanted, material.certificates)
        while True:
            try:
                made = next(steps)
            except StopIteration as end:
                contexts.served = end.value
                return
            if made is not None:
                contexts.made.append(made)
            yield
            if not self.wanted:
                self._garbage += contexts.made
                contexts.made.clear()
                return

    def _name(self, number: int, contexts: Contexts) -> Generator[None, None, None]:
        """Tell the engine which context is for which name, a few in a step."""
        if contexts.served is None:
            return
        names = list(contexts.served.by_name.items())
        for start in range(0, len(names), NAMES):
            yield
            if not self.wanted:
                return
            self._engine.add_names(
                number, {name: context_address(context) for name, context in names[start : start + NAMES]}
            )
        for start in range(0, len(contexts.served.windows), NAMES):
            yield
            if not self.wanted:
                return
            for name, since, until, context in contexts.served.windows[start : start + NAMES]:
                self._engine.add_name(number, name, context_address(context), since, until)

    def _plan(
        self,
        snapshot: Snapshot,
        name: str,
        group: Group,
        wanted: Settings | None,
        trust: Trust,
        contexts: Contexts,
    ) -> ListenerPlan:
        listener: Listener = snapshot.config.listeners[name]
        material: ListenerMaterial = snapshot.material.listeners[name]
        row = snapshot.rows.listeners[name]
        served = contexts.served
        return ListenerPlan(
            generation=snapshot.generation,
            row=row,
            group_row=snapshot.rows.groups[listener.server_group],
            front=Front(self._fronts[row]) if wanted is not None else None,
            verify=wanted is not None and wanted.verify,
            optional=listener.client_auth.mode == "optional",
            report=listener.client_auth.mode == "report",
            tickets=listener.session_tickets,
            strict_sni=listener.strict_sni,
            reset_truncated=listener.on_truncated == "reset",
            handshake_timeout=listener.handshake_timeout,
            connect_timeout=snapshot.config.server_groups[listener.server_group].connect_timeout,
            idle_timeout=listener.idle_timeout,
            half_close_timeout=listener.half_close_timeout,
            max_handshakes=listener.max_handshakes,
            max_connections=listener.max_connections,
            cps=listener.cps,
            max_connections_per_certificate=listener.client_auth.max_connections_per_certificate,
            refusals=snapshot.config.log.refusals_per_second,
            route=route_address(),
            group=group.address,
            alpn=wanted.alpn if wanted is not None else b"",
            fallback=context_address(served.first) if served is not None else 0,
            revocations=Table(material.revocations) if material.revocations is not None else None,
            rules=Rules(material.rules) if material.rules is not None else None,
            overdue_accepted=listener.client_auth.on_crl_overdue == "accept",
            store=store_address(wanted.live_store) if wanted is not None else 0,
            depth=listener.client_auth.depth,
            lost_trust=trust.lost(self._before.get(name)),
            keep_live=listener.client_auth.on_revoked == "keep",
            keep_expired=listener.client_auth.on_expired == "keep",
            **proxy_protocol(listener, snapshot.config.node.name),
            names={},
            more_names=len(served.by_name) + len(served.windows) if served is not None else 0,
            keep=(group, wanted, *contexts.made),
        )
