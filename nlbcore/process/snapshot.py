"""A snapshot: one numbered, immutable generation of everything that a worker serves.

Configuration and material, keys included, travel from the checker to the supervisor and on to the workers as a sealed
memfd; workers never read files. The rows say where in the segment each listener and server is counted.

    8 bytes             number of parts
    8 + 8 bytes each    where the part begins and how long it is: first the pickle, then its buffers
    the parts, each at a multiple of ALIGN, each once

What is large and only looked into (revocation tables) is pickled out of band (PEP 574), so that all workers read one and
the same memory, that of the memfd.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlbcore.config.model import Config
    from nlbcore.tls.material import Material

ALIGN = 64
_COUNT = struct.Struct("=Q")
_PLACE = struct.Struct("=QQ")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True)
class Rows:
    """The rows of the segment: by listener, by group, and by (group, server)."""

    listeners: dict[str, int]
    groups: dict[str, int]
    servers: dict[tuple[str, str], int]

    @classmethod
    def number(cls, config: Config) -> Rows:
        """Number everything in the order of the file."""
        servers = [(name, server.name) for name, group in config.server_groups.items() for server in group.servers]
        return cls(
            {name: row for row, name in enumerate(config.listeners)},
            {name: row for row, name in enumerate(config.server_groups)},
            {key: row for row, key in enumerate(servers)},
        )

    def directory(self, node: str) -> dict[str, Any]:
        """The names behind the rows, as the segment publishes them."""
        return {
            "node": node,
            "listeners": {row: name for name, row in self.listeners.items()},
            "groups": {row: name for name, row in self.groups.items()},
            "servers": {row: server for (_, server), row in self.servers.items()},
        }


@dataclass(frozen=True)
class Snapshot:
    """What a worker is a function of."""

    generation: int
    config: Config
    material: Material = field(repr=False)  # keys
    rows: Rows

    def seal(self) -> int:
        """Write it into a sealed memfd; the caller owns the descriptor."""
        fd = os.memfd_create(f"nlb-generation-{self.generation}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(self, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
        parts = [memoryview(text), *(buffer.raw() for buffer in buffers)]
        places: dict[int, int] = {}  # by the object that holds the bytes: several listeners may have one table
        end = _COUNT.size + len(parts) * _PLACE.size
        with os.fdopen(os.dup(fd), "wb") as out:
            out.write(_COUNT.pack(len(parts)))
            for number, part in enumerate(parts):
                start = places.setdefault(id(part.obj), _aligned(end))
                out.seek(_COUNT.size + number * _PLACE.size)
                out.write(_PLACE.pack(start, len(part)))
                if start >= end:
                    out.seek(start)
                    out.write(part)
                    end = start + len(part)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return fd

    @staticmethod
    def unseal(fd: int) -> Snapshot:
        """Read what `seal()` wrote; the descriptor stays the caller's. Only ever from ourselves: it is a pickle.

        Raises:
            ValueError: the memfd is not sealed, so it may change while it is read
        """
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("the snapshot is not sealed")
        mapped = memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))
        (count,) = _COUNT.unpack_from(mapped)
        places = _PLACE.iter_unpack(mapped[_COUNT.size : _COUNT.size + count * _PLACE.size])
        parts = [mapped[start : start + size] for start, size in places]
        snapshot = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - see above
        if not isinstance(snapshot, Snapshot):
            raise TypeError("not a snapshot")
        return snapshot


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
