"""A snapshot: one numbered, immutable generation of everything that a worker serves.

Configuration and material, keys included, travel to the workers as a sealed memfd; workers never read files. The rows
say where in the segment each listener and server is counted.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlbcore.config.model import Config
    from nlbcore.tls.material import Material

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
        with os.fdopen(os.dup(fd), "wb") as out:
            pickle.dump(self, out, pickle.HIGHEST_PROTOCOL)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return fd

    @staticmethod
    def unseal(fd: int) -> Snapshot:
        """Read what `seal()` wrote, and close the descriptor. Only ever from our own supervisor: it is a pickle.

        Raises:
            ValueError: the memfd is not sealed, so it may change while it is read
        """
        with os.fdopen(fd, "rb") as source:
            if fcntl.fcntl(source, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                raise ValueError("the snapshot is not sealed")
            source.seek(0)
            snapshot = pickle.load(source)  # noqa: S301 - see above
        if not isinstance(snapshot, Snapshot):
            raise TypeError("not a snapshot")
        return snapshot
