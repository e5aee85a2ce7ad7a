"""Accepting: listening sockets, the back-off when descriptors run out, the limit of connections a second.

A socket of our own slot is watched alone. One that several workers watch - a Unix socket, or that of a slot which we
have adopted - is watched with EPOLLEXCLUSIVE. Sockets stay open when we stop watching: closing one would drop what
waits in its queue.

Out of descriptors (EMFILE), the queue would otherwise be reported again at once and for ever: a spare descriptor is
given up to accept one connection and close it, so that the client learns it, and the acceptor pauses for 5 ms, doubling
to 1 s while it lasts. It is logged once for each such time.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from nlbcore.engine.counters cimport shared
from nlbcore.engine.journal cimport journal_event
from nlbcore.engine.linux.socket cimport (
    SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, sockaddr, sockaddr_storage, socklen_t,
)
from nlbcore.engine.linux.unistd cimport (
    ECONNABORTED, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, close, dup, errno,
)
from nlbcore.engine.loop cimport ACCEPTOR, loop_add, loop_remove, loop_share
from nlbcore.engine.slab cimport Listener
from nlbcore.engine.timers cimport timer_clear, timer_set, timers_clock_us, timers_now

cdef extern from *:
    """
    static inline int nlb_swap(uint64_t *at, uint64_t *expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(at, expected, wanted, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    """
    bint swap "nlb_swap"(uint64_t *at, uint64_t *expected, uint64_t wanted) noexcept nogil

cdef enum:
    FIRST_PAUSE = 5         # ms
    LONGEST_PAUSE = 1000
    WARNING = 30            # logging.WARNING
    SECOND = 1000000000     # ns

cdef Acceptor acceptors[ACCEPTORS]
cdef uint32_t count = 0
cdef uint32_t free_from = 0     # no free one before it
cdef int spare = -1


cdef Acceptor *acceptor_at(uint32_t index) noexcept nogil:
    return &acceptors[index]


cdef uint32_t acceptor_count() noexcept nogil:
    return count


cdef int watch(const Acceptor *acceptor) noexcept nogil:
    cdef uint32_t index = <uint32_t>(acceptor - acceptors)
    if acceptor.shared:
        return loop_share(acceptor.fd, ACCEPTOR, index)
    return loop_add(acceptor.fd, ACCEPTOR, index, 0, False)


cdef int acceptor_add(int fd, Listener *listener, bint among_others) noexcept nogil:
    """Accept from `fd`, which is non-blocking and stays open until acceptor_remove(): its number, or -1 when the
    kernel or the table has no room for it."""
    global count, free_from, spare
    cdef uint32_t index = free_from
    cdef Acceptor *acceptor
    while index < count and acceptors[index].used:
        index += 1
    free_from = index
    if index == ACCEPTORS:
        return -1
    acceptor = &acceptors[index]
    memset(acceptor, 0, sizeof(Acceptor))
    acceptor.fd = fd
    acceptor.shared = among_others
    acceptor.listener = listener
    acceptor.timer.owner = acceptor
    acceptor.timer.kind = ACCEPTOR_TIMER
    if watch(acceptor) != 0:
        return -1
    if spare < 0:
        spare = dup(fd)
    acceptor.used = True
    listener.references += 1
    free_from = index + 1
    if index == count:
        count += 1
    return <int>index


cdef void acceptor_move(Acceptor *acceptor, Listener *listener) noexcept nogil:
    """Its connections belong to another listener from now on."""
    if acceptor.used:
        acceptor.listener.references -= 1
        acceptor.listener = listener
        listener.references += 1


cdef void acceptor_remove(Acceptor *acceptor) noexcept nogil:
    """Accept from it no more; the socket goes on to listen until everybody has closed it."""
    global free_from, spare
    cdef uint32_t index = <uint32_t>(acceptor - acceptors)
    if not acceptor.used:
        return
    timer_clear(&acceptor.timer)
    loop_remove(acceptor.fd)
    acceptor.used = False
    acceptor.listener.references -= 1
    free_from = min(free_from, index)
    if spare >= 0:          # it may be a dup of this socket, which would go on listening
        close(spare)
        spare = -1
        for index in range(count):
            if acceptors[index].used:
                spare = dup(acceptors[index].fd)
                break


cdef void acceptor_resume(Acceptor *acceptor) noexcept nogil:
    """The pause is over."""
    if acceptor.used and watch(acceptor) != 0:
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
            if spare < 0:
                spare = dup(acceptor.fd)
            if spare >= 0:
                close(spare)
                fd = accept4(acceptor.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
                if fd >= 0:
                    close(fd)
                spare = dup(acceptor.fd)
            pause(acceptor)
            return ACCEPT_BACKOFF
        if errno == EINVAL:     # bound, and not listening (yet): it would be reported again at once and for ever
            acceptor.pause = LONGEST_PAUSE
            pause(acceptor)
            return ACCEPT_BACKOFF
        return ACCEPT_NONE


cdef bint within_cps(Listener *listener) noexcept nogil:
    """Whether one more connection is within the limit a second (generic cell rate algorithm, ITU-T I.371), over all
    workers; a whole second's worth may come at once."""
    cdef uint64_t *at = &shared.cps_due[listener.row]
    cdef uint64_t now, before, due
    if listener.cps == 0:
        return True
    now = timers_clock_us() * 1000
    before = at[0]
    while True:
        due = (before if before > now else now) + SECOND // listener.cps
        if due > now + SECOND:
            return False
        if swap(at, &before, due):
            return True
