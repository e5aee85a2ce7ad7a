"""Accepting: listening sockets, the back-off when descriptors run out, the limit of connections a second.

Out of descriptors (EMFILE), the queue would otherwise be reported again at once and for ever: a spare descriptor is
given up to accept one connection and close it, so that the client learns it, and the acceptor pauses for 5 ms, doubling
to 1 s while it lasts. It is logged once for each such time.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from nlbcore.engine.journal cimport journal_event
from nlbcore.engine.linux.socket cimport (
    SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, sockaddr, sockaddr_storage, socklen_t,
)
from nlbcore.engine.linux.unistd cimport (
    ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, close, dup, errno,
)
from nlbcore.engine.loop cimport ACCEPTOR, loop_add, loop_remove
from nlbcore.engine.slab cimport Listener
from nlbcore.engine.timers cimport timer_clear, timer_set, timers_clock_us, timers_now

cdef enum:
    FIRST_PAUSE = 5         # ms
    LONGEST_PAUSE = 1000
    WARNING = 30            # logging.WARNING
    SECOND = 1000000000     # ns

cdef Acceptor acceptors[ACCEPTORS]
cdef uint32_t count = 0
cdef int spare = -1


cdef Acceptor *acceptor_at(uint32_t index) noexcept nogil:
    return &acceptors[index]


cdef uint32_t acceptor_count() noexcept nogil:
    return count


cdef int acceptor_add(int fd, Listener *listener) noexcept nogil:
    """Accept from `fd`, which is non-blocking and stays open until acceptor_close(); 0, or -1 with errno."""
    global count, spare
    cdef Acceptor *acceptor = &acceptors[count]
    if count == ACCEPTORS:
        return -1
    if spare < 0:
        spare = dup(fd)
    memset(acceptor, 0, sizeof(Acceptor))
    acceptor.fd = fd
    acceptor.listener = listener
    acceptor.timer.owner = acceptor
    acceptor.timer.kind = ACCEPTOR_TIMER
    if loop_add(fd, ACCEPTOR, count, 0, False) != 0:
        return -1
    listener.references += 1
    count += 1
    return 0


cdef void acceptor_close(Acceptor *acceptor) noexcept nogil:
    global spare
    if acceptor.fd < 0:
        return
    timer_clear(&acceptor.timer)
    loop_remove(acceptor.fd)    # closing alone does not: the supervisor has the same socket open
    close(acceptor.fd)
    acceptor.fd = -1
    acceptor.listener.references -= 1
    if spare >= 0:          # it may be a dup of this socket, which would go on listening
        close(spare)
        spare = -1


cdef void acceptor_resume(Acceptor *acceptor) noexcept nogil:
    """The pause is over."""
    if acceptor.fd >= 0 and loop_add(acceptor.fd, ACCEPTOR, <uint32_t>(acceptor - acceptors), 0, False) != 0:
        timer_set(&acceptor.timer, timers_now() + LONGEST_PAUSE)


cdef void pause(Acceptor *acceptor) noexcept nogil:
    if acceptor.pause == 0:
        acceptor.pause = FIRST_PAUSE
        journal_event(WARNING, b"accept_failed error=\"too many open files\"")
    else:
        acceptor.pause = acceptor.pause * 2 if acceptor.pause * 2 < LONGEST_PAUSE else LONGEST_PAUSE
    loop_remove(acceptor.fd)
    timer_set(&acceptor.timer, timers_now() + acceptor.pause)


cdef int acceptor_accept(Acceptor *acceptor, sockaddr_storage *peer) noexcept nogil:
    """The next connection's descriptor and address, or ACCEPT_NONE, ACCEPT_BACKOFF."""
    global spare
    cdef socklen_t size
    cdef int fd
    while True:
        size = sizeof(sockaddr_storage)
        fd = accept4(acceptor.fd, <sockaddr *>peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            acceptor.pause = 0
            return fd
        if errno in (ECONNABORTED, EINTR, EPROTO):
            continue
        if errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
            if spare >= 0:
                close(spare)
                fd = accept4(acceptor.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
                if fd >= 0:
                    close(fd)
                spare = dup(acceptor.fd)
            pause(acceptor)
            return ACCEPT_BACKOFF
        return ACCEPT_NONE


cdef bint within_cps(Listener *listener) noexcept nogil:
    """Whether one more connection is within the limit a second (generic cell rate algorithm, ITU-T I.371);
    a whole second's worth may come at once."""
    cdef uint64_t now, due
    if listener.cps == 0:
        return True
    now = timers_clock_us() * 1000
    due = (listener.cps_due if listener.cps_due > now else now) + SECOND // listener.cps
    if due > now + SECOND:
        return False
    listener.cps_due = due
    return True
