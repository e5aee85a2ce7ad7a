"""The poller: one epoll instance per process, its events tagged with kind, slot and generation, never with a pointer.

Connections are registered once, edge-triggered for both directions (transport.pyx keeps the edges). Listening sockets
and the channel are level-triggered: what a batch leaves is reported again.
"""

from libc.stdint cimport uint32_t, uint64_t
from nlbcore.engine.linux.epoll cimport (
    EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL,
    epoll_create1, epoll_ctl, epoll_event, epoll_wait,
)
from nlbcore.engine.linux.unistd cimport close

cdef enum:
    BATCH = 256             # events a round

cdef int epfd = -1
cdef epoll_event events[BATCH]


cdef int loop_open() noexcept nogil:
    """0, or -1 with errno."""
    global epfd
    epfd = epoll_create1(EPOLL_CLOEXEC)
    return 0 if epfd >= 0 else -1


cdef void loop_close() noexcept nogil:
    global epfd
    if epfd >= 0:
        close(epfd)
    epfd = -1


cdef int add(int fd, Kind kind, uint32_t slot, uint32_t generation, uint32_t flags) noexcept nogil:
    cdef epoll_event event
    event.events = flags
    event.data.u64 = (<uint64_t>kind << 56) | (<uint64_t>generation << 32) | slot
    return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event)


cdef int loop_add(int fd, Kind kind, uint32_t slot, uint32_t generation, bint edge) noexcept nogil:
    """Watch `fd`; 0, or -1 with errno. `generation` has 24 bits."""
    return add(fd, kind, slot, generation,
               (EPOLLET | EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP) if edge else EPOLLIN)


cdef int loop_share(int fd, Kind kind, uint32_t slot) noexcept nogil:
    """Watch a listening socket that other processes watch too: a connection wakes one of us, not all
    (EPOLLEXCLUSIVE). 0, or -1 with errno."""
    return add(fd, kind, slot, 0, EPOLLIN | <uint32_t>EPOLLEXCLUSIVE)


cdef void loop_remove(int fd) noexcept nogil:
    epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL)


cdef int loop_wait(int timeout) noexcept nogil:
    """Sleep at most `timeout` ms (-1: for ever); the number of events."""
    cdef int n = epoll_wait(epfd, events, BATCH, timeout)
    return n if n > 0 else 0


cdef void loop_event(int index, Event *event) noexcept nogil:
    cdef uint64_t tag = events[index].data.u64
    event.kind = <Kind>(tag >> 56)
    event.generation = <uint32_t>(tag >> 32) & 0xFFFFFF
    event.slot = <uint32_t>tag
    event.flags = events[index].events
