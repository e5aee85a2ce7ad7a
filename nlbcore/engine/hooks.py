"""The interface upwards: what the engine asks of the layers above it, which it does not know.

route    `route_t` of hooks.pxd, a C function: which server takes this connection. ``pool/schedulers`` implements it and
         hands it over as a capsule with the group's address. No Python runs in it.
nursery  :class:`Front`: makes ready TLS connections on a listener's front context, 4 at a time.

The end of a connection needs no hook: the engine writes a record into the worker's log ring (``engine/journal``) and
counts it in the segment (``engine/counters``); other processes make words of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nlbcore.engine.revoked import Table
    from nlbcore.engine.rules import Rules


class Front(Protocol):
    """A listener's front context, as ``tls/context`` makes it."""

    def connections(self, count: int) -> list[tuple[int, int, int]]:
        """Make `count` TLS connections in accept state.

        Returns:
            for each the addresses of its ``SSL``, read ``BIO`` and write ``BIO``; the caller owns the ``SSL``
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ListenerPlan:
    """Everything the engine knows of a listener. Times in seconds; 0 is no limit.

    Attributes:
        generation: number of the snapshot it comes from
        row: the listener's row in the segment
        group_row: its server group's number, for the log
        front: makes TLS connections; None for a plain TCP listener
        verify: clients are asked for a certificate; they need one unless it is `optional`, or
        optional: who has none is let in, who has a bad one is refused
        report: everybody is let in, and what would have become of them is logged and counted
        tickets: session tickets are issued
        strict_sni: a server name that no certificate covers is refused
        reset_truncated: a client that ends without close_notify resets its server's connection
        route: address of the ``route_t`` function that chooses servers
        group: the pointer it is given
        alpn: our protocols in order of preference, wire format (RFC 7301, 3.1); empty for none
        fallback: address of the certificate context for a client that names nobody we know
        names: address of the certificate context for each server name, lower case, ``*.`` for a wildcard
        more_names: how many of them `Engine.add_names` will bring
        revocations: the table of the listener's revocation lists; None: nobody is revoked
        rules: the table of the listener's `allow` and `deny`; None: everybody is allowed
        overdue_accepted: a list past its nextUpdate refuses only those that it has
        store: address of the ``X509_STORE`` with the CAs of the clients, to verify live connections again
        depth: intermediates allowed
        lost_trust: a client that the generation before has verified may have to be verified again: a CA is gone
        max_connections_per_certificate: live connections with one client certificate, over all workers
        refusals: refusals that are alike and told in one second; the others are counted
        keep_live: live connections that would be refused now may go on
        keep_expired: live connections may go on when their client certificate has expired
        announce: what its server is told of a client by the PROXY protocol: "off", "v1", "v2", "tls" or "full"
        announce_limit: bytes that a PROXY header has at most
        node: names this machine in the unique ids of that header
        fronts: whose PROXY header is believed, 18 bytes each: 4, 6, or 0 for UNIX sockets; bits of the prefix; address
        keep: objects that own the memory behind these addresses
    """

    generation: int
    row: int
    group_row: int
    front: Front | None
    verify: bool
    tickets: bool
    strict_sni: bool
    reset_truncated: bool
    handshake_timeout: float
    connect_timeout: float
    idle_timeout: float
    half_close_timeout: float
    max_handshakes: int
    max_connections: int
    cps: int
    route: int
    group: int
    alpn: bytes
    fallback: int
    names: Mapping[str, int]
    more_names: int = 0
    revocations: Table | None = None
    overdue_accepted: bool = False
    rules: Rules | None = None
    store: int = 0
    depth: int = 100
    lost_trust: bool = False
    max_connections_per_certificate: int = 0
    refusals: int = 0
    keep_live: bool = False
    optional: bool = False
    report: bool = False
    keep_expired: bool = False
    announce: str = "off"
    announce_limit: int = 4096
    node: bytes = b""
    fronts: bytes = b""
    keep: tuple[object, ...] = ()
