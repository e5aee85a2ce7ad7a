from libc.stdint cimport uint32_t
from nlbcore.engine.slab cimport Queue, Session

cdef void dequeue(Session *s) noexcept nogil
cdef void enqueue(Session *s, Queue q) noexcept nogil
cdef Session *queue_first(Queue q) noexcept nogil
cdef uint32_t queue_length(Queue q) noexcept nogil
cdef bint work_waits() noexcept nogil
