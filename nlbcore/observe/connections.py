"""The live connections: what every worker has written about its own, as dictionaries with the keys of the access log.

A worker answers `conns` with a memfd of records as in its log ring, of kind CONNECTION, in which the byte for how the
connection ended says how far it has come. The supervisor passes the memfds on unread, so they are read here as what they
are, the words of a process that strangers talk to: piece by piece, with every size checked, never mapped, and what one
worker spoils costs only its own.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.observe.access_log import SIZE, Head, Names, as_json, claimed, described, size_of, unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

CONNECTION = 3
STATES = ("free", "hello", "handshake", "connect", "relay", "flush", "linger", "preamble")
"""In the order of `State` in engine/slab.pxd."""
LEAST_DIGITS = 8
"""Of a fingerprint: fewer may be found in anybody's."""
_PIECE = 1 << 20
_LARGEST = 1 << 19
"""More than the head, eight texts and the largest certificate that a record holds."""


@dataclass(frozen=True)
class Filter:
    """Which connections are meant: those for which everything that is said holds.

    Attributes:
        listener: its name
        client: the network that the client's address is in
        identity: a part of the subject or of an alternative name of the client's certificate, in any case, or the first
            digits of its SHA-256, at least `LEAST_DIGITS`, with colons or without
        server: names of its server group and of the server in it
    """

    listener: str | None = None
    client: IPv4Network | IPv6Network | None = None
    identity: str | None = None
    server: tuple[str, str] | None = None

    def rows(self, names: Names) -> tuple[Collection[int], Collection[int], Collection[int]] | None:
        """The rows of the listener, the group and the server, of every generation that lives; None where all are meant.

        Raises:
            NlbError: there is no such name
        """
        group, server = self.server or (None, None)
        wanted = (
            _rows("listener", self.listener, names.listeners),
            _rows("server group", group, names.groups),
            _rows("server", server, names.servers),
        )
        return None if wanted == (_ALL, _ALL, _ALL) else wanted

    def takes_identity(self, identity: Mapping[str, Any]) -> bool:
        """Whether the certificate is meant."""
        text = (self.identity or "").casefold()
        digits = text.replace(":", "")
        if len(digits) >= LEAST_DIGITS and identity.get("client_cert_sha256", "").startswith(digits):
            return True
        told = (identity.get("client_cert_subject", ""), *identity.get("client_cert_sans", ()))
        return any(text in one.casefold() for one in told)


_ALL = range(1 << 16)
EVERYBODY = Filter()


class Connections:
    """The answer to `conns`. Iterating gives a dictionary for each connection that the filter takes, as it is read.

    Attributes:
        unreadable: the workers that have not answered, or whose lists had to be given up; known when the iteration is over
    """

    def __init__(self, answer: Mapping[str, Any], fds: Sequence[int], chosen: Filter = EVERYBODY) -> None:
        """Take the answer and its descriptors, which stay the caller's to close.

        Raises:
            NlbError: the filter names a listener or server that there is not
        """
        self.unreadable: list[int] = []
        self._silent = list(answer.get("silent", ()))
        self._names = Names.of({"node": answer["node"], **answer["names"]})
        self._lists = tuple(zip(answer["workers"], fds, strict=True))
        self._filter = chosen
        self._rows = chosen.rows(self._names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.unreadable[:] = self._silent
        for worker, fd in self._lists:
            try:
                for record in _records(fd):
                    found = self._read(record, worker)
                    if found is not None:
                        yield found
            except (OSError, ValueError):
                self.unreadable.append(worker)

    def _read(self, record: bytes, worker: int) -> dict[str, Any] | None:
        """One connection, None if it is not meant. What costs most, to read its certificate, comes last."""
        head, texts = unpack(record)
        if head.kind != CONNECTION or SIZE + sum(map(len, texts)) != len(record):
            raise ValueError
        if not self._takes_head(head):
            return None
        identity = claimed(head, texts[-1])
        if self._filter.identity is not None and not self._filter.takes_identity(identity):
            return None
        told = described(head, texts, identity, worker, self._names)
        state = STATES[head.termination] if head.termination < len(STATES) else f"unknown ({head.termination})"
        return {"connection": head.id, "worker": worker, "state": state} | told

    def _takes_head(self, head: Head) -> bool:
        if self._rows is not None:
            listeners, groups, servers = self._rows
            if head.listener_row not in listeners or head.group_row not in groups or head.server_row not in servers:
                return False
        client = self._filter.client
        return client is None or _is_in(head, client)


def as_array(connections: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """A JSON array, a connection a line, as it is read; nothing in it that a terminal obeys."""
    start = b"["
    for one in connections:
        yield start + b"\n" + as_json(dict(one))
        start = b","
    yield b"[]\n" if start == b"[" else b"\n]\n"


def _rows(kind: str, wanted: str | None, names: Mapping[int, str]) -> Collection[int]:
    if wanted is None:
        return _ALL
    found = {row for row, name in names.items() if name == wanted}
    if not found:
        known = ", ".join(sorted(set(names.values()))) or "none"
        raise NlbError(f"there is no {kind} {wanted}; there are: {known}")
    return found


def _is_in(head: Head, network: IPv4Network | IPv6Network) -> bool:
    return head.family == network.version and ip_address(head.address[: network.max_prefixlen // 8]) in network


def _records(fd: int) -> Iterator[bytes]:
    """The records in a memfd.

    Raises:
        ValueError, OSError: it is none, or what it holds is no sequence of records
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError
    data, offset = b"", 0
    while piece := os.pread(fd, _PIECE, offset):
        offset += len(piece)
        data += piece
        at = 0
        while at + SIZE <= len(data):
            size = size_of(data[at : at + 4])
            if not SIZE <= size <= _LARGEST:
                raise ValueError
            if at + size > len(data):
                break
            yield data[at : at + size]
            at += size
        data = data[at:]
    if data:
        raise ValueError
