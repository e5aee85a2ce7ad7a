r"""The shared-memory segment: what the processes of a balancer tell each other without a message.

A memfd that the supervisor makes before it forks. Untouched pages cost nothing, so the capacities are fixed and large; but
reading one costs it, so look at the blocks of `used` slots only.

    0          magic "nlbseg\\0\\0", layout version, number of worker slots      (HEADER bytes)
    HEADER     Shared: what all workers look at
    ...        one Block for each worker slot, on page boundaries

What a row means - which listener, group, server - stands in the facts (``nlbcore.facts``), which no worker can change.

A Block is written by its worker alone (``engine/counters``, the same layout as C structures; a test compares them).
*Counters* are monotone and survive a restart of the worker; *gauges* (`live`, `expiring`, `holders`) are set to zero by the
supervisor when it reaps one, so that a killed worker's connections are not counted for ever. Rows are given out by the
supervisor and mean the same in every block. The log ring at the end of a block is read by the log writer, which owns
`tail` and `asleep`; records are described in ``engine/journal.pxd``.

Shared has one writer for each field too: the verdicts on the servers are the prober's, the orders of the operator the
supervisor's, hearts those of the attendants. One exception: `cps_due` of a listener is every worker's, by
compare-and-swap.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING, ClassVar, Self

from nlbcore.termination import WORDS, Termination

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"nlbseg\0\0"
VERSION = 5
HEADER = mmap.PAGESIZE
SLOTS = 256
LISTENERS = 256
GROUPS = 1024
SERVERS = 8192
HOLDERS = 131072
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
ORDERS = ("ready", "drain", "maint")
"""What the operator wants of a server (the words of HAProxy's runtime API); an `Order.state` is an index."""
READY, DRAIN, MAINT = range(3)
HEARTS = ("log_writer", "prober", "admin", "watcher")
"""Whose hearts beat in `Shared.hearts`, in this order."""
TLS_VERSIONS = ("other", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""The rows of a listener's handshake counters."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Upper bounds of a histogram's buckets in seconds; one bucket more is for what is longer."""
EXPIRING_DAYS = (1, 7, 14, 30)
"""For each the number of client certificates in use that end within so many days stands in `expiring`."""
VERDICTS = {
    "accepted": 0,
    **{WORDS[number]: number for number in range(Termination.NO_CERTIFICATE, Termination.DENIED + 1)},
}
"""What can be said of a client that `report` lets in, and where in `verdicts` it is counted."""
_HEAD = struct.Struct("=8sII")


class Histogram(ctypes.Structure):
    """How long something took: how often within each bucket (not cumulative), and all together."""

    _fields_: ClassVar = [("buckets", ctypes.c_uint64 * (len(BUCKETS) + 1)), ("sum_us", ctypes.c_uint64)]


class ListenerCounters(ctypes.Structure):
    """One row of a listener in a worker's block; bytes are of the client, decrypted."""

    _fields_: ClassVar = [
        ("connections", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("terminations", ctypes.c_uint64 * 64),
        ("verdicts", ctypes.c_uint64 * 64),
        ("handshakes", (ctypes.c_uint64 * 2) * 5),
        ("handshake_time", Histogram),
        ("connection_time", Histogram),
        ("certificates_left_out", ctypes.c_uint64),
        ("suppressed", ctypes.c_uint64),
        ("live", ctypes.c_int64),
        ("expiring", ctypes.c_int64 * len(EXPIRING_DAYS)),
    ]


class GroupCounters(ctypes.Structure):
    """One row of a server group in a worker's block."""

    _fields_: ClassVar = [("connect_time", Histogram)]


class ServerCounters(ctypes.Structure):
    """One row of a server in a worker's block."""

    _fields_: ClassVar = [
        ("connections", ctypes.c_uint64),
        ("connect_failed", ctypes.c_uint64),
        ("connect_timeout", ctypes.c_uint64),
        ("live", ctypes.c_int64),
    ]


class Ring(ctypes.Structure):
    """A worker's log ring: bytes ever written (`head`) and ever read (`tail`); `muted`: there is no access log."""

    _fields_: ClassVar = [
        ("head", ctypes.c_uint64),
        ("tail", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("asleep", ctypes.c_uint32),
        ("muted", ctypes.c_uint32),
        ("data", ctypes.c_ubyte * RING),
    ]


class Holder(ctypes.Structure):
    """A client certificate at a listener and its connections; see ``engine/present``."""

    _fields_: ClassVar = [("key", ctypes.c_uint64), ("count", ctypes.c_uint32), ("unused", ctypes.c_uint32)]


class Block(ctypes.Structure):
    """What one worker writes: `heartbeat` and `stall_us` tell how its loop fares; `held`: whether `holders` was ever used."""

    _fields_: ClassVar = [
        ("heartbeat", ctypes.c_uint64),
        ("connection", ctypes.c_uint64),
        ("stall_us", ctypes.c_uint64),
        ("held", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 4),
        ("listeners", ListenerCounters * LISTENERS),
        ("groups", GroupCounters * GROUPS),
        ("servers", ServerCounters * SERVERS),
        ("holders", Holder * HOLDERS),
        ("ring", Ring),
    ]


class Verdict(ctypes.Structure):
    """What the prober says of one server: indices into STATES and REASONS, whether it waits for its first verdict (one that
    a reload has added gets no connections before, if there are others), and since when (ms of the Unix epoch). The
    supervisor writes it once, when it gives out the row.
    """

    _fields_: ClassVar = [
        ("state", ctypes.c_uint8),
        ("reason", ctypes.c_uint8),
        ("waits", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 5),
        ("since_ms", ctypes.c_uint64),
    ]


class Order(ctypes.Structure):
    """What the operator wants of one server: an index into ORDERS, one more than its weight (0: that of the file), and
    when its connections are cut (ms on the monotonic clock, 0: never).
    """

    _fields_: ClassVar = [
        ("state", ctypes.c_uint8),
        ("weight_and_one", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 6),
        ("cut_ms", ctypes.c_uint64),
    ]


class Shared(ctypes.Structure):
    """What all workers look at: how many slots were ever used; for each listener when its next connection may come (ns on
    the monotonic clock; the limit of connections a second) and when those of one that is no more are cut (ms); for each
    server the verdict on it and the operator's order.
    """

    _fields_: ClassVar = [
        ("slots", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("hearts", ctypes.c_uint64 * len(HEARTS)),
        ("cps_due", ctypes.c_uint64 * LISTENERS),
        ("listener_cut_ms", ctypes.c_uint64 * LISTENERS),
        ("verdicts", Verdict * SERVERS),
        ("orders", Order * SERVERS),
    ]


SHARED = -(-ctypes.sizeof(Shared) // mmap.PAGESIZE) * mmap.PAGESIZE
BLOCK = -(-ctypes.sizeof(Block) // mmap.PAGESIZE) * mmap.PAGESIZE


class Segment:
    """A mapping of the segment; `fd` is the memfd, to be handed to other processes."""

    slots: int

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        """Map the segment behind `fd`; not `writable`: what is written here nobody else sees.

        Raises:
            ValueError: it is none of ours, or of another layout version
        """
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < HEADER:
            raise ValueError(f"{size} bytes are no segment")
        self._map = mmap.mmap(fd, size, access=mmap.ACCESS_DEFAULT if writable else mmap.ACCESS_COPY)
        magic, version, self.slots = _HEAD.unpack_from(self._map)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"not a segment of layout version {VERSION}")
        self.shared = Shared.from_buffer(self._map, HEADER)
        self.verdicts = self.shared.verdicts

    @classmethod
    def create(cls, slots: int = SLOTS) -> Self:
        """Make a segment for at most `slots` workers; the memfd is not inherited over exec unless it is passed on, and its
        size is sealed: nobody can take the ground from under the others' feet.
        """
        fd = os.memfd_create("nlb-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER + SHARED + slots * BLOCK)
        os.pwrite(fd, _HEAD.pack(MAGIC, VERSION, slots), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    @property
    def used(self) -> int:
        """Slots that have ever had a worker; only their blocks are worth a look."""
        return min(int(self.shared.slots), self.slots)

    def use(self, slots: int) -> None:
        """Say that so many slots have a worker from now on; they never become fewer."""
        self.shared.slots = max(self.used, slots)

    def block(self, slot: int) -> Block:
        """The block of a worker slot, in place."""
        return Block.from_buffer(self._map, HEADER + SHARED + slot * BLOCK)

    def repair(self, slot: int, listeners: Iterable[int], servers: Iterable[int]) -> None:
        """What a worker that is gone has left behind: its connections are no more, so its gauges in these rows are 0."""
        block = self.block(slot)
        for row in listeners:
            block.listeners[row].live = 0
            block.listeners[row].expiring[:] = [0] * len(EXPIRING_DAYS)
        for row in servers:
            block.servers[row].live = 0
        if block.held:
            ctypes.memset(ctypes.addressof(block.holders), 0, ctypes.sizeof(block.holders))
            block.held = 0
