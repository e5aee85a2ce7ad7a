"""Counting: plain stores into this worker's block of the segment, and a look at the blocks of the others.

The C structures here and the description in ``nlbcore/segment.py`` are the same thing for two readers; a test compares
every size and offset. Until a worker has been given its block, a private one takes the counts (tests, tools).
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc

cdef Block *block = <Block *>calloc(1, sizeof(Block))
cdef Shared *shared = <Shared *>calloc(1, sizeof(Shared))
cdef unsigned char *blocks = <unsigned char *>block
cdef size_t stride = 0          # bytes from one block to the next
cdef uint32_t slots = 1

cdef uint64_t bounds[BUCKETS - 1]       # us
for _bucket, _us in enumerate((500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,
                               5000000, 10000000, 30000000, 60000000, 300000000, 900000000, 3600000000)):
    bounds[_bucket] = _us


cdef void observe(Histogram *histogram, uint64_t us) noexcept nogil:
    """Count something that has taken so long; the bucket last, so that a reader never sees it without its sum."""
    cdef uint32_t bucket = 0
    while bucket < BUCKETS - 1 and us > bounds[bucket]:
        bucket += 1
    histogram.sum_us += us
    histogram.buckets[bucket] += 1


cdef uint32_t blocks_used() noexcept nogil:
    """How many slots have ever had a worker."""
    return min(slots, shared.slots) if stride else 1


cdef Block *block_of(uint32_t slot) noexcept nogil:
    return <Block *>(blocks + slot * stride)


cdef int64_t live_connections(uint16_t row) noexcept nogil:
    """Connections of a listener over all workers. Who counts itself first and looks then never lets one too many in,
    though two at the same moment may both be refused."""
    cdef int64_t total = 0
    cdef uint32_t i
    fence()
    for i in range(blocks_used()):
        total += block_of(i).listeners[row].live
    return total


def use(uintptr_t address, Py_ssize_t size):
    """Count into the block at `address` (bytes of a shared mapping that the caller keeps mapped), as the only worker.

    Raises:
        ValueError: the block is smaller than the layout asks
    """
    global block, blocks, stride, slots
    if size < <Py_ssize_t>sizeof(Block):
        raise ValueError(f"a worker's block needs {sizeof(Block)} bytes, not {size}")
    block = <Block *>address
    blocks = <unsigned char *>block
    stride = 0
    slots = 1


def share(uintptr_t address, uintptr_t first, size_t step, uint32_t count):
    """Look at what all workers share at `address`, and at their `count` blocks, the first of them at `first`, `step`
    bytes from one to the next. The caller keeps the mapping."""
    global shared, blocks, stride, slots
    shared = <Shared *>address
    blocks = <unsigned char *>first
    stride = step
    slots = count


def layout():
    """Sizes and offsets in bytes of the C structures, to be compared with ``nlbcore.segment``."""
    cdef uintptr_t start = <uintptr_t>block
    cdef uintptr_t listener = <uintptr_t>&block.listeners[0]
    return {
        "Block": sizeof(Block),
        "Block.listeners": <uintptr_t>&block.listeners - start,
        "Block.groups": <uintptr_t>&block.groups - start,
        "GroupCounters": sizeof(GroupCounters),
        "Block.servers": <uintptr_t>&block.servers - start,
        "Block.held": <uintptr_t>&block.held - start,
        "Block.holders": <uintptr_t>&block.holders - start,
        "Block.ring": <uintptr_t>&block.ring - start,
        "ListenerCounters": sizeof(ListenerCounters),
        "ListenerCounters.terminations": <uintptr_t>&block.listeners[0].terminations - listener,
        "ListenerCounters.verdicts": <uintptr_t>&block.listeners[0].verdicts - listener,
        "ListenerCounters.handshakes": <uintptr_t>&block.listeners[0].handshakes - listener,
        "ListenerCounters.handshake_time": <uintptr_t>&block.listeners[0].handshake_time - listener,
        "ListenerCounters.connection_time": <uintptr_t>&block.listeners[0].connection_time - listener,
        "ListenerCounters.certificates_left_out": (
            <uintptr_t>&block.listeners[0].certificates_left_out - listener),
        "ListenerCounters.suppressed": <uintptr_t>&block.listeners[0].suppressed - listener,
        "ListenerCounters.live": <uintptr_t>&block.listeners[0].live - listener,
        "ListenerCounters.expiring": <uintptr_t>&block.listeners[0].expiring - listener,
        "Holder": sizeof(Holder),
        "ServerCounters": sizeof(ServerCounters),
        "Shared": sizeof(Shared),
        "Shared.cps_due": <uintptr_t>&shared.cps_due - <uintptr_t>shared,
        "Shared.listener_cut_ms": <uintptr_t>&shared.listener_cut_ms - <uintptr_t>shared,
        "Shared.verdicts": <uintptr_t>&shared.verdicts - <uintptr_t>shared,
        "Shared.orders": <uintptr_t>&shared.orders - <uintptr_t>shared,
        "Order": sizeof(Order),
        "Order.cut_ms": <uintptr_t>&shared.orders[0].cut_ms - <uintptr_t>&shared.orders[0],
        "Verdict": sizeof(Verdict),
        "Verdict.since_ms": <uintptr_t>&shared.verdicts[0].since_ms - <uintptr_t>&shared.verdicts[0],
        "Ring": sizeof(Ring),
        "Ring.data": <uintptr_t>&block.ring.data - <uintptr_t>&block.ring,
    }
