# epoll, edge-triggered, with tagged events; see loop.pyx.
from libc.stdint cimport uint32_t, uint64_t

cdef enum Kind:             # what an event is about
    CHANNEL                 # the supervisor has something to say
    ACCEPTOR                # a listening socket; index in `slot`
    CLIENT                  # a session's socket to its client
    SERVER                  # ... to its server

cdef struct Event:
    Kind kind
    uint32_t slot
    uint32_t generation
    uint32_t flags          # EPOLLIN, ...

cdef int loop_open() noexcept nogil
cdef void loop_close() noexcept nogil
cdef int loop_add(int fd, Kind kind, uint32_t slot, uint32_t generation, bint edge) noexcept nogil
cdef int loop_share(int fd, Kind kind, uint32_t slot) noexcept nogil
cdef void loop_remove(int fd) noexcept nogil
cdef int loop_wait(int timeout) noexcept nogil
cdef void loop_event(int index, Event *event) noexcept nogil
