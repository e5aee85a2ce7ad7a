"""The socket under a transport: receive, send, half-close, close - what plain and TLS have in common.

The operations of ``TransportOps``, and what the relay may rely on whichever transport it is:

read      at most `size` bytes into the buffer: their number, or IO_END, IO_AGAIN, IO_ERROR, IO_YIELD
write     takes *all* bytes (at most SCRATCH) and sends what the socket takes; the rest is the backlog. Only to be
          called without a backlog: that is the whole back-pressure, and bounds the memory of a direction
flush     sends the backlog: 0 when it is gone, else IO_AGAIN or IO_ERROR
shutdown  ends our direction (FIN or close_notify) once; the other direction goes on. 0, IO_AGAIN, IO_ERROR
backlog   bytes taken but not sent
pending   whether bytes wait inside the transport, of which epoll knows nothing
release   frees what the transport holds beside its socket

epoll is edge-triggered and told once per socket. `readable` and `writable` remember an edge until the kernel answers
EAGAIN, so holding a reader back costs no system call: one just does not read.
"""

from libc.string cimport memset
from nlbcore.engine.buf cimport buf_free
from nlbcore.engine.linux.socket cimport (
    MSG_MORE, MSG_NOSIGNAL, SHUT_WR, SIOCOUTQ, SOL_SOCKET, SO_LINGER, ioctl, linger, recv, send, setsockopt,
    shutdown,
)
from nlbcore.engine.linux.unistd cimport EAGAIN, EINTR, EPIPE, close, errno


cdef void transport_init(Transport *t, int fd, const TransportOps *ops) noexcept nogil:
    memset(t, 0, sizeof(Transport))
    t.fd = fd
    t.ops = ops
    t.writable = True


cdef int transport_recv(Transport *t, unsigned char *into, int size) noexcept nogil:
    """recv(): a number of bytes, IO_END at the peer's FIN, IO_AGAIN, or IO_ERROR with `error` set."""
    cdef ssize_t n
    if not t.readable:
        return IO_ERROR if t.cut else IO_AGAIN
    while True:
        n = recv(t.fd, into, <size_t>size, 0)
        if n > 0:
            if n < size and not t.rdhup and not t.urgent:   # the queue is empty now; a later byte is a new edge
                t.readable = False
            return <int>n
        if n == 0 and t.error and t.error != EPIPE:     # a send has taken the socket's error away; this is no FIN
            t.cut = True
            t.readable = False
            return IO_ERROR
        if n == 0:
            t.fin = True
            t.readable = False
            return IO_END
        if errno == EINTR:
            continue
        t.readable = False
        if errno == EAGAIN:
            return IO_AGAIN
        t.error = errno
        t.cut = True
        return IO_ERROR


cdef int transport_send(Transport *t, const unsigned char *data, int size) noexcept nogil:
    """send(): a number of bytes, IO_AGAIN, or IO_ERROR with `error` set."""
    cdef ssize_t n
    if not t.writable:
        return IO_ERROR if t.error else IO_AGAIN
    while True:
        n = send(t.fd, data, <size_t>size, MSG_NOSIGNAL | MSG_MORE if t.more else MSG_NOSIGNAL)
        if n >= 0:
            if n < size:
                t.writable = False
            return <int>n
        if errno == EINTR:
            continue
        t.writable = False
        if errno == EAGAIN:
            return IO_AGAIN
        t.error = errno
        return IO_ERROR


cdef int transport_queued(const Transport *t) noexcept nogil:
    """Bytes that the kernel holds and the peer has not acknowledged."""
    cdef int queued = 0
    if t.fd >= 0:
        ioctl(t.fd, SIOCOUTQ, &queued)
    return queued


cdef int transport_fin(Transport *t) noexcept nogil:
    """Half-close the socket: the peer reads our last byte and then the end."""
    if shutdown(t.fd, SHUT_WR) != 0:
        t.error = errno
        return IO_ERROR
    return 0


cdef void transport_close(Transport *t, bint reset) noexcept nogil:
    """Close the socket, by RST when `reset`, and free what hangs on it. Closing takes it out of epoll too."""
    cdef linger at_once
    if t.fd < 0:
        return
    if reset:
        at_once.l_onoff = 1
        at_once.l_linger = 0
        setsockopt(t.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))
    t.ops.release(t)
    buf_free(&t.out)
    close(t.fd)
    t.fd = -1
