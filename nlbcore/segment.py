r"""The shared-memory segment: what the processes of a balancer tell each other without a message.

A memfd that the supervisor makes before it forks. Untouched pages cost nothing, so the capacities are fixed and large.

    0          magic "nlbseg\\0\\0", layout version, number of worker slots      (HEADER bytes)
    HEADER     the directory of names                                          (DIRECTORY bytes)
    ...        Shared: what all workers look at, on a page boundary
    ...        one Block for each worker slot, on page boundaries

The directory is JSON: which listener, group and server a row number means, and the node's name. Only the supervisor
writes it: first the length, 0 while it changes.

A Block is written by its worker alone (``engine/counters``, the same layout as C structures; a test compares them).
*Counters* are monotone and survive a restart of the worker; *gauges* (`live`) are set to zero by the supervisor when it
reaps one, so that a killed worker's connections are not counted for ever. Rows are given out by the supervisor and mean
the same in every block. The log ring at the end of a block is read by the log writer, which owns `tail` and `asleep`;
records are described in ``engine/journal.pxd``.

Shared has one writer for each field too, with one exception: the verdicts on the servers are the prober's, `cps_due` of a
listener is every worker's, by compare-and-swap.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"nlbseg\0\0"
VERSION = 2
HEADER = mmap.PAGESIZE
DIRECTORY = 4 * 1024 * 1024
LISTENERS = 256
SERVERS = 8192
RING = 1 << 20
STATES = ("Initial", "Available", "Unhealthy", "Unavailable", "Draining")
"""What is known of a server (the words of Alibaba Cloud NLB): checks have not told yet, it answers, it does not, it is not
checked, it is being taken out. A `Verdict.state` is an index."""
INITIAL, AVAILABLE, UNHEALTHY, UNAVAILABLE, DRAINING = range(5)
REASONS = (
    "",
    "CONNECT_TIMEOUT",
    "CONNECT_FAILED",
    "RECV_RESPONSE_TIMEOUT",
    "CONNECT_INTERRUPT",
    "HTTP_CODE_NOT_MATCH",
    "HTTP_INVALID_HEADER",
)
"""Why a server is unhealthy (the words of Alibaba Cloud NLB); a `Verdict.reason` is an index."""
_HEAD = struct.Struct("=8sII")
_LENGTH = struct.Struct("=I")


class ListenerCounters(ctypes.Structure):
    """One row of a listener in a worker's block; bytes are of the client, decrypted."""

    _fields_: ClassVar = [
        ("connections", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("terminations", ctypes.c_uint64 * 64),
        ("handshakes", (ctypes.c_uint64 * 2) * 5),
        ("live", ctypes.c_int64),
    ]


class ServerCounters(ctypes.Structure):
    """One row of a server in a worker's block."""

    _fields_: ClassVar = [
        ("connections", ctypes.c_uint64),
        ("connect_failed", ctypes.c_uint64),
        ("connect_timeout", ctypes.c_uint64),
        ("live", ctypes.c_int64),
    ]


class Ring(ctypes.Structure):
    """A worker's log ring: bytes ever written (`head`) and ever read (`tail`)."""

    _fields_: ClassVar = [
        ("head", ctypes.c_uint64),
        ("tail", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("asleep", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("data", ctypes.c_ubyte * RING),
    ]


class Block(ctypes.Structure):
    """What one worker writes: `heartbeat` and `stall_us` tell how its loop fares."""

    _fields_: ClassVar = [
        ("heartbeat", ctypes.c_uint64),
        ("connection", ctypes.c_uint64),
        ("stall_us", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 5),
        ("listeners", ListenerCounters * LISTENERS),
        ("servers", ServerCounters * SERVERS),
        ("ring", Ring),
    ]


class Verdict(ctypes.Structure):
    """What the prober says of one server: indices into STATES and REASONS, and since when (ms of the Unix epoch)."""

    _fields_: ClassVar = [
        ("state", ctypes.c_uint8),
        ("reason", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 6),
        ("since_ms", ctypes.c_uint64),
    ]


class Shared(ctypes.Structure):
    """What all workers look at: for each listener when its next connection may come (ns on the monotonic clock; the
    limit of connections a second), for each server the verdict on it.
    """

    _fields_: ClassVar = [
        ("cps_due", ctypes.c_uint64 * LISTENERS),
        ("verdicts", Verdict * SERVERS),
    ]


SHARED = -(-ctypes.sizeof(Shared) // mmap.PAGESIZE) * mmap.PAGESIZE
BLOCK = -(-ctypes.sizeof(Block) // mmap.PAGESIZE) * mmap.PAGESIZE


class Segment:
    """A mapping of the segment; `fd` is the memfd, to be handed to other processes."""

    def __init__(self, fd: int) -> None:
        """Map the segment behind `fd`.

        Raises:
            ValueError: it is none of ours, or of another layout version
        """
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < HEADER:
            raise ValueError(f"{size} bytes are no segment")
        self._map = mmap.mmap(fd, size)
        magic, version, self.slots = _HEAD.unpack_from(self._map)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"not a segment of layout version {VERSION}")
        self.shared = Shared.from_buffer(self._map, HEADER + DIRECTORY)
        self.verdicts = self.shared.verdicts

    @classmethod
    def create(cls, slots: int) -> Self:
        """Make a segment for `slots` workers; the memfd is not inherited over exec unless it is passed on, and its size is
        sealed: nobody can take the ground from under the others' feet.
        """
        fd = os.memfd_create("nlb-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER + DIRECTORY + SHARED + slots * BLOCK)
        os.pwrite(fd, _HEAD.pack(MAGIC, VERSION, slots), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    def block(self, slot: int) -> Block:
        """The block of a worker slot, in place."""
        return Block.from_buffer(self._map, HEADER + DIRECTORY + SHARED + slot * BLOCK)

    def repair(self, slot: int, listeners: Iterable[int], servers: Iterable[int]) -> None:
        """What a worker that is gone has left behind: its connections are no more, so its gauges in these rows are 0."""
        block = self.block(slot)
        for row in listeners:
            block.listeners[row].live = 0
        for row in servers:
            block.servers[row].live = 0

    def write_directory(self, names: dict[str, Any]) -> None:
        """Publish the names of the rows.

        Raises:
            ValueError: they do not fit
        """
        text = json.dumps(names).encode()
        if len(text) > DIRECTORY - _LENGTH.size:
            raise ValueError(f"the names of the configuration need {len(text)} bytes")
        _LENGTH.pack_into(self._map, HEADER, 0)
        start = HEADER + _LENGTH.size
        self._map[start : start + len(text)] = text
        _LENGTH.pack_into(self._map, HEADER, len(text))

    def directory(self) -> dict[str, Any]:
        """The names of the rows; empty before they were written."""
        (length,) = _LENGTH.unpack_from(self._map, HEADER)
        start = HEADER + _LENGTH.size
        names: dict[str, Any] = json.loads(self._map[start : start + length]) if length else {}
        return names
