"""The byte pump: two directions between two transports, with back-pressure, half-close and a budget.

A direction's life: read, write; while the destination has a backlog, nothing is read from the source (the whole
back-pressure: at most SCRATCH bytes wait in a direction). When the source has ended and the backlog is gone, the
destination's direction is shut: FIN or close_notify, once. The other direction goes on. Only when both have ended is
the session over.

A server that takes no more bytes (it has closed, and answered what we sent with RST) may still have an answer in our
receive queue: the client is not read any more, and the server's direction is read to its end first.
"""

from libc.stdint cimport uint64_t
from nlbcore.engine.buf cimport SCRATCH, plaintext
from nlbcore.engine.slab cimport Session, TRUNCATED_RESETS
from nlbcore.engine.timers cimport timers_now
from nlbcore.engine.transport cimport IO_AGAIN, IO_END, IO_ERROR, IO_YIELD, Transport
from nlbcore.termination cimport CLIENT_CLOSE, SERVER_CLOSE, TRUNCATED

cdef enum:
    BUDGET = 131072         # bytes of a connection in a round

cdef enum Cut:              # Session.up_cut: the server takes no more bytes ...
    CUT = 1                 # ... before it had said its last
    CUT_AFTER_END = 2       # ... after its FIN: it has closed in order, the client only did not know yet

cdef enum Moved:
    MOVED                   # something changed: look again
    IDLE                    # nothing to move
    YIELDED                 # the source's budget is used up
    SOURCE_BROKEN
    DESTINATION_BROKEN


cdef Moved move(Transport *source, Transport *destination, uint64_t *counter) noexcept nogil:
    cdef int n
    if destination.ops.backlog(destination):
        n = destination.ops.flush(destination)
        if n == IO_ERROR:
            return DESTINATION_BROKEN
        if n == IO_AGAIN:
            return IDLE
    if destination.shut:
        return IDLE
    n = source.ops.read(source, plaintext, SCRATCH)
    if n > 0:
        counter[0] += n
        return DESTINATION_BROKEN if destination.ops.write(destination, plaintext, n) == IO_ERROR else MOVED
    if n == IO_END:
        return DESTINATION_BROKEN if destination.ops.shutdown(destination) == IO_ERROR else MOVED
    if n == IO_YIELD:
        return YIELDED
    return IDLE if n == IO_AGAIN else SOURCE_BROKEN


cdef void note_end(Session *s) noexcept nogil:
    """The direction that ended first names the end of the connection."""
    if s.ending:
        return
    if s.client.ended:
        s.ending = CLIENT_CLOSE if s.client.clean else TRUNCATED
    elif s.server.ended:
        s.ending = SERVER_CLOSE
    else:
        return
    s.half_closed = timers_now()


cdef Pumped pump(Session *s) noexcept nogil:
    """Move what can be moved within the budget of a round."""
    cdef uint64_t begin = s.received + s.sent
    cdef Moved up = IDLE
    cdef Moved down = IDLE
    cdef Pumped result
    while True:
        if not s.up_cut:
            if s.client.ended and not s.client.clean and not s.client.shut and (
                    s.listener.on_truncated == TRUNCATED_RESETS):
                if s.server.ops.backlog(&s.server) == 0 or s.server.ops.flush(&s.server) == 0:
                    result = PUMP_TRUNCATED
                    break
                up = IDLE
            else:
                up = move(&s.client, &s.server, &s.received)
                if up == DESTINATION_BROKEN:
                    s.up_cut = CUT_AFTER_END if s.server.ended else CUT
                    up = IDLE
            if up == SOURCE_BROKEN:
                result = PUMP_CLIENT_BROKEN
                break
        down = move(&s.server, &s.client, &s.sent)
        note_end(s)
        if down == DESTINATION_BROKEN:
            result = PUMP_CLIENT_BROKEN
            break
        if down == SOURCE_BROKEN or (s.up_cut == CUT and s.server.ended):
            result = PUMP_SERVER_BROKEN
            break
        if s.client.shut and not s.client.ops.backlog(&s.client) and (
                s.up_cut or (s.server.shut and not s.server.ops.backlog(&s.server))):
            result = PUMP_DONE
            break
        if s.received + s.sent - begin >= BUDGET:
            result = PUMP_AGAIN
            break
        if up == MOVED or down == MOVED:
            continue
        result = PUMP_AGAIN if up == YIELDED or down == YIELDED else PUMP_WAIT
        break
    if s.received + s.sent != begin:
        s.active = timers_now()
    return result
