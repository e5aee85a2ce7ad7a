"""Dialling a server: a non-blocking connect, and another server when it fails.

Another one is tried only before a byte of the client was sent to any, so it is always safe, also for protocols in which
the server speaks first; each is sent a PROXY header of its own. At most TRIES different servers are tried; the deadline
of each is the group's connect_timeout.
"""

from nlbcore.engine.announce cimport announce
from nlbcore.engine.counters cimport block, observe
from nlbcore.engine.hooks cimport Route, TRIES
from nlbcore.engine.linux.socket cimport (
    AF_UNIX, IPPROTO_TCP, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SO_ERROR, SO_KEEPALIVE, TCP_NODELAY,
    connect, getsockopt, setsockopt, sockaddr, socket, socklen_t,
)
from nlbcore.engine.linux.unistd cimport EINPROGRESS, errno
from nlbcore.engine.loop cimport SERVER, loop_add
from nlbcore.engine.plain cimport plain_ops
from nlbcore.engine.slab cimport Session
from nlbcore.engine.timers cimport timer_set, timers_clock_us, timers_now
from nlbcore.engine.transport cimport transport_close, transport_init
from nlbcore.termination cimport CONNECT_FAILED, CONNECT_TIMEOUT, NO_SERVER


cdef int dial(Session *s) noexcept nogil:
    """Start a connect to the next server: 0, or -1 when there is none left; s.termination then says why."""
    cdef Route route
    cdef int one = 1
    cdef int fd
    if s.dialled == 0:
        s.dialled = timers_clock_us()
    while s.tries < TRIES and s.listener.route(s.listener.group, s.tried, s.tries, &route) == 0:
        s.tried[s.tries] = route.row
        s.tries += 1
        s.server_row = route.row
        fd = socket(route.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:                          # out of descriptors: no other server would help
            dial_failed(s, CONNECT_FAILED, errno)
            return -1
        if route.address.ss_family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one))
        transport_init(&s.server, fd, &plain_ops)
        if (connect(fd, <const sockaddr *>&route.address, route.size) == 0 or errno == EINPROGRESS) and (
                loop_add(fd, SERVER, s.slot, s.generation, True) == 0):
            timer_set(&s.timer, timers_now() + s.listener.connect_timeout)
            return 0
        dial_failed(s, CONNECT_FAILED, errno)
    if s.tries == 0:
        s.termination = NO_SERVER
    return -1


cdef void dial_failed(Session *s, int word, int error) noexcept nogil:
    """Count and remember a failed try; the last one gives the connection its word when no server is left."""
    s.termination = word
    s.detail_errno = error
    if word == CONNECT_TIMEOUT:
        block.servers[s.server_row].connect_timeout += 1
    else:
        block.servers[s.server_row].connect_failed += 1
    transport_close(&s.server, False)


cdef int dialled(Session *s) noexcept nogil:
    """The socket's answer to the connect: 1 connected, 0 another server is being dialled, -1 none is left."""
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    if getsockopt(s.server.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0:
        error = errno
    if error:
        dial_failed(s, CONNECT_FAILED, error)
        return dial(s)
    s.server.writable = True
    if s.listener.announce and announce(s) != 0:
        dial_failed(s, CONNECT_FAILED, s.server.error)
        return dial(s)
    s.connected = timers_clock_us()
    observe(&block.groups[s.listener.group_row].connect_time, s.connected - s.dialled)
    s.termination = 0
    s.detail_errno = 0
    s.server_counters = &block.servers[s.server_row]
    s.server_counters.connections += 1
    s.server_counters.live += 1
    return 1
