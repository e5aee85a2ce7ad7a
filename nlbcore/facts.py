r"""Facts: what the supervisor tells its attendants of the balancer, and nobody else can change.

A memfd with one JSON object: the names behind the rows of the segment, listeners and servers as configured, certificates by
their dates, workers, the last reload. Nothing in it is secret. Readers need no answer from the supervisor, and it needs
none from them.

    0     magic "nlbfact\0", sequence, heartbeat (ms of the monotonic clock), length
    HEAD  the JSON text, `length` bytes

The sequence is odd while the text changes, so a reader that sees the same even number before and after has read a whole
one. After F_SEAL_FUTURE_WRITE only the mapping that was there before can write; workers do not inherit it, attendants map
the memfd read-only.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
from typing import Any, Self

MAGIC = b"nlbfact\0"
SIZE = 64 * 1024 * 1024
_HEAD = struct.Struct("=8sQQQ")
_NUMBER = struct.Struct("=Q")
_SEQUENCE, _HEARTBEAT, _LENGTH = 8, 16, 24
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; `fcntl` has no name for it
_TRIES = 1000


class Facts:
    """A read-only mapping of the facts behind `fd`.

    Raises:
        ValueError: it is something else
    """

    def __init__(self, fd: int, *, _writable: bool = False) -> None:
        self.fd = fd
        if os.fstat(fd).st_size != SIZE:
            raise ValueError("not the facts of a balancer")
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if _writable else 0)
        self._map = mmap.mmap(fd, SIZE, mmap.MAP_SHARED, protection)
        if not _writable and self._map[:8] != MAGIC:
            raise ValueError("not the facts of a balancer")
        self._read_at = -1
        self._read: dict[str, Any] = {}

    @classmethod
    def create(cls) -> Self:
        """Make them: empty, and writable through this object alone; a forked child has no mapping of it."""
        fd = os.memfd_create("nlb-facts", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SIZE)
        facts = cls(fd, _writable=True)
        facts._map.madvise(mmap.MADV_DONTFORK)
        _HEAD.pack_into(facts._map, 0, MAGIC, 0, 0, 0)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
        )
        return facts

    @property
    def sequence(self) -> int:
        """Changes with every `publish()`."""
        return self._number(_SEQUENCE)

    @property
    def heartbeat(self) -> int:
        """When the supervisor was last heard of: ms of the monotonic clock."""
        return self._number(_HEARTBEAT)

    def beat(self) -> None:
        _NUMBER.pack_into(self._map, _HEARTBEAT, time.monotonic_ns() // 1_000_000)

    def publish(self, facts: dict[str, Any]) -> None:
        """Replace them.

        Raises:
            ValueError: they do not fit
        """
        text = json.dumps(facts, separators=(",", ":")).encode()
        if len(text) > SIZE - _HEAD.size:
            raise ValueError(f"the names of the configuration need {len(text)} bytes")
        sequence = self.sequence
        _NUMBER.pack_into(self._map, _SEQUENCE, sequence + 1)
        _NUMBER.pack_into(self._map, _LENGTH, len(text))
        self._map[_HEAD.size : _HEAD.size + len(text)] = text
        _NUMBER.pack_into(self._map, _SEQUENCE, sequence + 2)

    def read(self) -> dict[str, Any]:
        """The facts of now; do not change the answer, which is kept while nothing is published. Empty before the first.

        Raises:
            TimeoutError: the supervisor has stopped in the middle of a change
        """
        for _ in range(_TRIES):
            before = self.sequence
            if before == self._read_at:
                return self._read
            if before % 2 == 0:
                length = self._number(_LENGTH)
                text = self._map[_HEAD.size : _HEAD.size + min(length, SIZE)]
                if self.sequence == before:
                    self._read = json.loads(text) if text else {}
                    self._read_at = before
                    return self._read
            time.sleep(0.001)
        raise TimeoutError("the supervisor does not finish what it publishes")

    def _number(self, offset: int) -> int:
        number: int = _NUMBER.unpack_from(self._map, offset)[0]
        return number
