"""A snapshot: one numbered, immutable generation of everything that a worker serves.

Configuration and material, keys included, travel from the checker to the supervisor and on to the workers as a sealed
memfd; workers never read files. The rows say where in the segment each listener and server is counted.

    8 + 8 bytes         number of texts, number of buffers
    8 + 8 bytes each    where each of them begins and how long it is
    the texts (pickles: the head, then the pieces) and the buffers, each at a multiple of ALIGN, each once

What there may be thousands of - certificates, servers, identity rules - is not in the head but in pieces, so that a worker
can read a generation in steps while it serves (1,000 certificates at once took 12 ms). What is large and only looked into
(revocation tables) is pickled out of band (PEP 574), so that all workers read one and the same memory, that of the memfd.
The configuration comes without `certificates`: they are in the material.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from nlbcore.config.model import Config
    from nlbcore.tls.material import Material

    Piece = tuple[str, str, tuple[Any, ...]]

ALIGN = 64
PIECE = 32
TEXTS = 1024
"""Rules in a piece: a worker needs none of them, the table in the material says all."""

RULES = ("allow", "deny")
_COUNTS = struct.Struct("=QQ")
_PLACE = struct.Struct("=QQ")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_Key = TypeVar("_Key", str, tuple[str, str])


class NoRowError(ValueError):
    """The segment has no row left for a listener, a group or a server."""


@dataclass(frozen=True)
class Limits:
    """How many rows there are: of listeners (each needs a front context, and those are made at the start), of groups, of
    servers.
    """

    listeners: int
    groups: int
    servers: int


@dataclass(frozen=True)
class Rows:
    """The rows of the segment: by listener, by group, and by (group, server)."""

    listeners: dict[str, int]
    groups: dict[str, int]
    servers: dict[tuple[str, str], int]

    @classmethod
    def number(cls, config: Config, limits: Limits, living: Sequence[Rows] = ()) -> Rows:
        """Number everything in the order of the file; what has a row keeps it, and a row in use is nobody else's.

        Args:
            config: what is to be numbered
            limits: how many rows there are
            living: the rows of the generations that somebody still needs, the newest last
        Raises:
            NoRowError: there are not enough
        """
        servers = [(name, server.name) for name, group in config.server_groups.items() for server in group.servers]
        return cls(
            _numbered(list(config.listeners), [rows.listeners for rows in living], limits.listeners, "listeners"),
            _numbered(list(config.server_groups), [rows.groups for rows in living], limits.groups, "server groups"),
            _numbered(servers, [rows.servers for rows in living], limits.servers, "servers"),
        )


def _numbered(keys: list[_Key], living: list[dict[_Key, int]], limit: int, what: str) -> dict[_Key, int]:
    known = {key: row for rows in living for key, row in rows.items()}
    taken = {row for rows in living for row in rows.values()}
    free = [row for row in range(limit) if row not in taken]
    free.reverse()
    new = sum(key not in known for key in keys)
    if new > len(free):
        drained = f" ({len(taken)} are in use, those that are being drained included)" if living else ""
        raise NoRowError(f"{len(keys)} {what}: there is room for {limit}{drained}")
    return {key: known[key] if key in known else free.pop() for key in keys}


@dataclass(frozen=True)
class Snapshot:
    """What a worker is a function of."""

    generation: int
    config: Config
    material: Material = field(repr=False)  # keys
    rows: Rows

    def seal(self) -> int:
        """Write it into a sealed memfd; the caller owns the descriptor."""
        buffers: list[pickle.PickleBuffer] = []
        lean, pieces = self._apart()
        texts = [pickle.dumps(lean, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)]
        texts += (pickle.dumps(piece, pickle.HIGHEST_PROTOCOL) for piece in pieces)
        parts = [*(memoryview(text) for text in texts), *(buffer.raw() for buffer in buffers)]
        places: dict[int, int] = {}  # by the object that holds the bytes: several listeners may have one table
        fd = os.memfd_create(f"nlb-generation-{self.generation}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        end = _COUNTS.size + len(parts) * _PLACE.size
        with os.fdopen(os.dup(fd), "wb") as out:
            out.write(_COUNTS.pack(len(texts), len(buffers)))
            for number, part in enumerate(parts):
                start = places.setdefault(id(part.obj), _aligned(end))
                out.seek(_COUNTS.size + number * _PLACE.size)
                out.write(_PLACE.pack(start, len(part)))
                if start >= end:
                    out.seek(start)
                    out.write(part)
                    end = start + len(part)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return fd

    def _apart(self) -> tuple[Snapshot, list[Piece]]:
        """Itself without what comes in pieces; and the pieces: kind, name, items."""
        config, material = self.config, self.material
        groups = {name: group.model_copy(update={"servers": ()}) for name, group in config.server_groups.items()}
        listeners = {
            name: one.model_copy(
                update={
                    "certificates": (),
                    "client_auth": one.client_auth.model_copy(
                        update={kind: () for kind in RULES if getattr(one.client_auth, kind)}
                    ),
                }
            )
            for name, one in config.listeners.items()
        }
        lean = replace(
            self,
            config=config.model_copy(update={"server_groups": groups, "listeners": listeners}),
            material=replace(
                material, listeners={name: replace(one, certificates=()) for name, one in material.listeners.items()}
            ),
        )
        pieces: list[Piece] = []
        for name, group in config.server_groups.items():
            pieces += (("servers", name, items) for items in _pieces(group.servers))
        for name, one in material.listeners.items():
            pieces += (("certificates", name, items) for items in _pieces(one.certificates))
        for name, listener in config.listeners.items():
            for kind in RULES:
                pieces += ((kind, name, items) for items in _pieces(getattr(listener.client_auth, kind) or (), TEXTS))
        return lean, pieces

    def together(self, pieces: Mapping[tuple[str, str], tuple[Any, ...]]) -> Snapshot:
        """Itself with what came in pieces."""
        groups = {
            name: group.model_copy(update={"servers": pieces.get(("servers", name), ())})
            for name, group in self.config.server_groups.items()
        }
        listeners = {
            name: replace(one, certificates=pieces.get(("certificates", name), ()))
            for name, one in self.material.listeners.items()
        }
        served = {
            name: one.model_copy(
                update={
                    "client_auth": one.client_auth.model_copy(
                        update={kind: pieces[kind, name] for kind in RULES if (kind, name) in pieces}
                    )
                }
            )
            for name, one in self.config.listeners.items()
        }
        return replace(
            self,
            config=self.config.model_copy(update={"server_groups": groups, "listeners": served}),
            material=replace(self.material, listeners=listeners),
        )

    @staticmethod
    def reading(fd: int) -> Generator[None, None, Snapshot]:
        """Read what `seal()` wrote, in steps; the descriptor stays the caller's. Only ever from ourselves: it is a pickle.

        Raises:
            ValueError: the memfd is not sealed, so it may change while it is read
        """
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("the snapshot is not sealed")
        mapped = memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))
        texts, buffers = _COUNTS.unpack_from(mapped)
        places = _PLACE.iter_unpack(mapped[_COUNTS.size : _COUNTS.size + (texts + buffers) * _PLACE.size])
        parts = [mapped[start : start + size] for start, size in places]
        lean = pickle.loads(parts[0], buffers=parts[texts:])  # noqa: S301 - see above
        if not isinstance(lean, Snapshot):
            raise TypeError("not a snapshot")
        pieces: dict[tuple[str, str], tuple[Any, ...]] = {}
        for text in parts[1:texts]:
            yield
            kind, name, items = pickle.loads(text)  # noqa: S301 - see above
            pieces[kind, name] = pieces.get((kind, name), ()) + items
        return lean.together(pieces)

    @staticmethod
    def unseal(fd: int) -> Snapshot:
        """`reading()` in one go."""
        steps = Snapshot.reading(fd)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                snapshot: Snapshot = end.value
                return snapshot


def _pieces(items: Sequence[Any], size: int = PIECE) -> Iterable[tuple[Any, ...]]:
    return (tuple(items[start : start + size]) for start in range(0, len(items), size))


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
