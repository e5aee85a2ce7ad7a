"""Look for the next message for a moment before going to sleep, where it is likely to come.

Theory of operation. To fall asleep and to be woken takes 20-50 us (on a virtual machine), longer than a message in a
fast network is on its way. So a worker that has just moved one small message polls for up to POLL us before it
sleeps - if the next event came about so soon the last times. That is a saturating counter, as processors predict
branches: up by one for a short wait, down by two for a long one. KVM polls before it halts a guest by the same idea
(docs.kernel.org/virt/kvm/halt-polling.html), HAProxy without end (`busy-polling`).

Many messages at a time, or many bytes, are a matter of throughput: then nothing is polled for. Nor is it when events
come more seldom than every 100 us: a worker with little to do sleeps.
"""

from libc.stdint cimport uint64_t
from nlbcore.engine.loop cimport loop_wait
from nlbcore.engine.timers cimport timers_clock_us

cdef enum:
    POLL = 50               # us
    SHORT = 100             # us; a sleep no longer than that could have been spared: it is the wait and the waking
    FEW = 2                 # events of the last round
    LITTLE = 16384          # bytes that it has moved: not as many
    HOPEFUL = 4             # from so many on is polled ...
    MOST = 8                # ... and more are not counted

cdef bint used = False
cdef int hope = 0


cdef void busypoll_use(bint on) noexcept nogil:
    global used
    used = on


cdef int busypoll_hope() noexcept nogil:
    """How likely the next event seems: from HOPEFUL on it is polled for."""
    return hope


cdef int busypoll_wait(int timeout, int events, uint64_t moved) noexcept nogil:
    """Wait for events as loop_wait() does. The last round has had so many `events` and has `moved` so many bytes."""
    global hope
    cdef uint64_t begin, now
    cdef bint polled
    cdef int n = 0
    if not used or timeout == 0 or events > FEW or not 0 < moved < LITTLE:
        return loop_wait(timeout)
    begin = now = timers_clock_us()
    polled = hope >= HOPEFUL
    while polled and n == 0 and now - begin < POLL:
        n = loop_wait(0)
        now = timers_clock_us()
    if n == 0:
        n = loop_wait(timeout)
        now = timers_clock_us()
        if polled or now - begin >= SHORT:
            hope = max(hope - 2, 0)
            return n
    hope = min(hope + 1, <int>MOST)
    return n
