"""A timer wheel: thousands of deadlines, O(1) to set, move and clear.

Theory of operation. Time is cut into ticks of 16 ms; 4,096 slots make a horizon of 65 s. A timer hangs in the slot of
the tick it is due at. A deadline moved *later* - every byte does that to the idle timer - only writes a number: the
timer fires early at its old tick, is found to be not yet over, and is hung up again. A deadline moved *earlier*
relinks. Deadlines beyond the horizon hang at its end and come back. A bitmap of the slots in use gives the time to
sleep without looking at 4,096 lists.

There is one wheel per process, as there is one loop.
"""

from libc.stdint cimport uint64_t
from nlbcore.engine.linux.clock cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from *:
    """
    #define nlb_ctz64(word) __builtin_ctzll(word)
    """
    int nlb_ctz64(uint64_t word) noexcept nogil

cdef enum:
    TICK = 16               # ms
    SLOTS = 4096
    WORDS = SLOTS // 64

cdef Timer *slots[SLOTS]
cdef uint64_t used[WORDS]
cdef uint64_t now_ms = 0
cdef uint64_t reached = 0   # the last tick whose slot has been emptied


cdef uint64_t timers_clock_us() noexcept nogil:
    """Monotonic microseconds, read from the kernel."""
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <uint64_t>at.tv_sec * 1000000 + <uint64_t>at.tv_nsec // 1000


cdef uint64_t timers_now() noexcept nogil:
    """Monotonic milliseconds as of the last timers_update(): one reading of the clock serves a whole round."""
    return now_ms


cdef void timers_update() noexcept nogil:
    global now_ms
    now_ms = timers_clock_us() // 1000


cdef void timers_reset() noexcept nogil:
    """Empty the wheel and start its clock; the timers that hung in it are forgotten."""
    global reached
    cdef int i
    for i in range(SLOTS):
        slots[i] = NULL
    for i in range(WORDS):
        used[i] = 0
    timers_update()
    reached = now_ms // TICK


cdef void hang(Timer *timer) noexcept nogil:
    cdef uint64_t due = (timer.deadline + TICK - 1) // TICK
    if due <= reached:
        due = reached + 1
    elif due > reached + SLOTS - 1:
        due = reached + SLOTS - 1
    timer.due = due
    cdef uint64_t slot = due % SLOTS
    timer.prev = NULL
    timer.next = slots[slot]
    if timer.next != NULL:
        timer.next.prev = timer
    slots[slot] = timer
    used[slot // 64] |= <uint64_t>1 << (slot % 64)


cdef void timer_set(Timer *timer, uint64_t deadline) noexcept nogil:
    """Let `timer` fire at `deadline` (ms); 0 means never."""
    if deadline == 0:
        timer_clear(timer)
        return
    cdef uint64_t due = (deadline + TICK - 1) // TICK
    if timer.due != 0 and due >= timer.due:
        timer.deadline = deadline
        return
    timer_clear(timer)
    timer.deadline = deadline
    hang(timer)


cdef void timer_clear(Timer *timer) noexcept nogil:
    if timer.due == 0:
        return
    cdef uint64_t slot = timer.due % SLOTS
    if timer.prev != NULL:
        timer.prev.next = timer.next
    else:
        slots[slot] = timer.next
        if timer.next == NULL:
            used[slot // 64] &= ~(<uint64_t>1 << (slot % 64))
    if timer.next != NULL:
        timer.next.prev = timer.prev
    timer.prev = timer.next = NULL
    timer.due = 0
    timer.deadline = 0


cdef Timer *timers_pop() noexcept nogil:
    """The next timer whose deadline is over, unlinked; NULL when there is none. Call until NULL."""
    global reached
    cdef uint64_t tick = now_ms // TICK
    cdef uint64_t deadline
    cdef Timer *timer
    if tick > reached + SLOTS:          # a long sleep (suspend): every slot is due, none twice
        reached = tick - SLOTS
    while reached < tick:
        timer = slots[(reached + 1) % SLOTS]
        if timer == NULL:
            reached += 1
            continue
        deadline = timer.deadline
        timer_clear(timer)
        if deadline > now_ms:
            timer.deadline = deadline
            reached += 1                # hang() never uses a slot at or before `reached`
            hang(timer)
            reached -= 1
            continue
        return timer
    return NULL


cdef int timers_wait() noexcept nogil:
    """Milliseconds until the next slot in use is due, -1 when the wheel is empty: the timeout for epoll_wait."""
    cdef uint64_t first = (reached + 1) % SLOTS
    cdef uint64_t word = first // 64
    cdef uint64_t bits = used[word] & (~<uint64_t>0 << (first % 64))
    cdef uint64_t slot, ahead, at
    cdef int _i
    for _i in range(WORDS + 1):
        if bits:
            slot = word * 64 + <uint64_t>nlb_ctz64(bits)
            ahead = (slot + SLOTS - first) % SLOTS
            at = (reached + 1 + ahead) * TICK
            return <int>(at - now_ms) if at > now_ms else 0
        word = (word + 1) % WORDS
        bits = used[word]
    return -1
