"""The lists in which sessions wait for their turn, first come, first served. A session stands in one of them at most;
which list is for what, and how they are served, is in rounds.pyx.
"""

from libc.stdint cimport uint32_t
from nlbcore.engine.slab cimport FIRST_STEPS, NEWCOMERS, NEXT_STEPS, NO_QUEUE, QUEUES, Queue, READY, Session

cdef Session *first[QUEUES]
cdef Session *last[QUEUES]
cdef uint32_t length[QUEUES]


cdef void dequeue(Session *s) noexcept nogil:
    """Out of the list it stands in, if any."""
    cdef Queue q = s.queue
    if q == NO_QUEUE:
        return
    if s.prev != NULL:
        s.prev.next = s.next
    else:
        first[<int>q] = s.next
    if s.next != NULL:
        s.next.prev = s.prev
    else:
        last[<int>q] = s.prev
    s.prev = s.next = NULL
    s.queue = NO_QUEUE
    length[<int>q] -= 1


cdef void enqueue(Session *s, Queue q) noexcept nogil:
    """To the end of a list, unless it stands in one already."""
    if s.queue != NO_QUEUE:
        return
    s.queue = q
    s.prev = last[<int>q]
    s.next = NULL
    if s.prev != NULL:
        s.prev.next = s
    else:
        first[<int>q] = s
    last[<int>q] = s
    length[<int>q] += 1


cdef Session *queue_first(Queue q) noexcept nogil:
    """Whose turn it is; NULL: nobody waits."""
    return first[<int>q]


cdef uint32_t queue_length(Queue q) noexcept nogil:
    return length[<int>q]


cdef bint work_waits() noexcept nogil:
    """Whether anybody waits in any of them."""
    return length[<int>READY] + length[<int>NEWCOMERS] + length[<int>FIRST_STEPS] + length[<int>NEXT_STEPS] > 0
