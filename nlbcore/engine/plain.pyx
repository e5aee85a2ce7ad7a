"""The plain transport: TCP or a Unix socket, byte for byte. The operations are described in transport.pyx."""

from nlbcore.engine.buf cimport buf_free, buf_keep, buf_waiting
from nlbcore.engine.linux.unistd cimport ENOMEM
from nlbcore.engine.transport cimport (
    IO_AGAIN, IO_END, IO_ERROR, Transport, transport_fin, transport_recv, transport_send,
)


cdef int plain_read(Transport *t, unsigned char *into, int size) noexcept nogil:
    cdef int n
    if t.ended:
        return IO_END
    n = transport_recv(t, into, size)
    if n == IO_END:
        t.ended = t.clean = True
    return n


cdef int plain_write(Transport *t, const unsigned char *data, int size) noexcept nogil:
    cdef int sent = transport_send(t, data, size)
    if sent == IO_ERROR:
        return IO_ERROR
    if sent == IO_AGAIN:
        sent = 0
    if sent < size and buf_keep(&t.out, data + sent, size - sent) != 0:
        t.error = ENOMEM
        return IO_ERROR
    return size


cdef int plain_flush(Transport *t) noexcept nogil:
    cdef int sent
    while buf_waiting(&t.out):
        sent = transport_send(t, t.out.data + t.out.done, buf_waiting(&t.out))
        if sent < 0:
            return sent
        t.out.done += sent
    if t.out.data != NULL:
        buf_free(&t.out)
    return 0


cdef int plain_shutdown(Transport *t) noexcept nogil:
    if not t.shut:
        t.shut = True
        t.more = False
        return transport_fin(t)
    return 0


cdef int plain_backlog(Transport *t) noexcept nogil:
    return buf_waiting(&t.out)


cdef bint plain_pending(Transport *t) noexcept nogil:
    return False


cdef void plain_release(Transport *t) noexcept nogil:
    pass


plain_ops.read = plain_read
plain_ops.write = plain_write
plain_ops.flush = plain_flush
plain_ops.shutdown = plain_shutdown
plain_ops.backlog = plain_backlog
plain_ops.pending = plain_pending
plain_ops.release = plain_release
