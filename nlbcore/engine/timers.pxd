# A wheel of deadlines; see timers.pyx.
from libc.stdint cimport uint64_t

cdef struct Timer:
    Timer *prev
    Timer *next
    uint64_t deadline       # ms on the loop's clock: when it shall fire
    uint64_t due            # the tick it hangs at; due <= deadline / TICK, so a later deadline costs nothing
    void *owner
    int kind                # what the owner is; 0 = a session

cdef uint64_t timers_now() noexcept nogil
cdef void timers_update() noexcept nogil
cdef uint64_t timers_clock_us() noexcept nogil
cdef void timer_set(Timer *timer, uint64_t deadline) noexcept nogil
cdef void timer_clear(Timer *timer) noexcept nogil
cdef Timer *timers_pop() noexcept nogil
cdef int timers_wait() noexcept nogil
cdef void timers_reset() noexcept nogil
