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
        "Ring": sizeof(Ring),
        "Ring.data": <uintptr_t>&block.ring.data - <uintptr_t>&block.ring,
    }
