"""Counting: plain stores into this worker's block of the segment, and a look at the blocks of the others.

The C structures here and the description in ``nlbcore/segment.py`` are the same thing for two readers; a test compares
every size and offset. Until a worker has been given its block, a private one takes the counts (tests, tools).
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc

cdef extern from *:
    """
    #define nlb_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    void fence "nlb_fence"() noexcept nogil

cdef Block *block = <Block *>calloc(1, sizeof(Block))
cdef Shared *shared = <Shared *>calloc(1, sizeof(Shared))
cdef unsigned char *blocks = <unsigned char *>block
cdef size_t stride = 0          # bytes from one block to the next
cdef uint32_t slots = 1


cdef int64_t live_connections(uint16_t row) noexcept nogil:
    """Connections of a listener over all workers. Who counts itself first and looks then never lets one too many in,
    though two at the same moment may both be refused."""
    cdef int64_t total = 0
    cdef uint32_t i
    fence()
    for i in range(slots):
        total += (<Block *>(blocks + i * stride)).listeners[row].live
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
        "Block.servers": <uintptr_t>&block.servers - start,
        "Block.ring": <uintptr_t>&block.ring - start,
        "ListenerCounters": sizeof(ListenerCounters),
        "ListenerCounters.terminations": <uintptr_t>&block.listeners[0].terminations - listener,
        "ListenerCounters.handshakes": <uintptr_t>&block.listeners[0].handshakes - listener,
        "ListenerCounters.live": <uintptr_t>&block.listeners[0].live - listener,
        "ServerCounters": sizeof(ServerCounters),
        "Shared": sizeof(Shared),
        "Shared.verdicts": <uintptr_t>&shared.verdicts - <uintptr_t>shared,
        "Verdict": sizeof(Verdict),
        "Verdict.since_ms": <uintptr_t>&shared.verdicts[0].since_ms - <uintptr_t>&shared.verdicts[0],
        "Ring": sizeof(Ring),
        "Ring.data": <uintptr_t>&block.ring.data - <uintptr_t>&block.ring,
    }
