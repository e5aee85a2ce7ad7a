"""Counting: plain stores into this worker's block of the segment.

The C structures here and the description in ``nlbcore/segment.py`` are the same thing for two readers; a test compares
every size and offset. Until a worker has been given its block, a private one takes the counts (tests, tools).
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc

cdef Block *block = <Block *>calloc(1, sizeof(Block))


def use(uintptr_t address, Py_ssize_t size):
    """Count into the block at `address` (bytes of a shared mapping that the caller keeps mapped).

    Raises:
        ValueError: the block is smaller than the layout asks
    """
    global block
    if size < <Py_ssize_t>sizeof(Block):
        raise ValueError(f"a worker's block needs {sizeof(Block)} bytes, not {size}")
    block = <Block *>address


def layout():
    """Sizes and offsets in bytes of the C structures, to be compared with ``nlbcore.segment``."""
    cdef Block *zero = NULL
    return {
        "Block": sizeof(Block),
        "Block.listeners": <uintptr_t>&zero.listeners,
        "Block.servers": <uintptr_t>&zero.servers,
        "Block.ring": <uintptr_t>&zero.ring,
        "ListenerCounters": sizeof(ListenerCounters),
        "ListenerCounters.terminations": <uintptr_t>&zero.listeners[0].terminations - <uintptr_t>&zero.listeners[0],
        "ListenerCounters.handshakes": <uintptr_t>&zero.listeners[0].handshakes - <uintptr_t>&zero.listeners[0],
        "ListenerCounters.live": <uintptr_t>&zero.listeners[0].live - <uintptr_t>&zero.listeners[0],
        "ServerCounters": sizeof(ServerCounters),
        "Ring": sizeof(Ring),
        "Ring.data": <uintptr_t>&zero.ring.data - <uintptr_t>&zero.ring,
    }
