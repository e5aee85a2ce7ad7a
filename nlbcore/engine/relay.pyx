"""The byte pump: two directions between two transports, with back-pressure, half-close and a budget.

A direction's life: read, write; while the destination has a backlog, nothing is read from the source (the whole
back-pressure: at most SCRATCH bytes wait in a direction). When the source has ended and the backlog is gone, the
destination's direction is shut: FIN or close_notify, once. The other direction goes on. Only when both have ended is
the session over.

A peer that takes no more bytes (it has closed, and answered ours with RST) may have said something before that
still is in our receive queue: the other side is not read any more, but this peer is read to its end first.
"""

from libc.stdint cimport uint64_t
from nlbcore.engine.buf cimport PIECE, SCRATCH, plaintext
from nlbcore.engine.slab cimport Session, TRUNCATED_RESETS
from nlbcore.engine.timers cimport timers_now
from nlbcore.engine.transport cimport IO_AGAIN, IO_END, IO_ERROR, IO_YIELD, Transport
from nlbcore.termination cimport CLIENT_CLOSE, SERVER_CLOSE, TRUNCATED

cdef enum:
    BUDGET = 131072         # bytes of a connection in a turn
    UNREAD = 131072         # backlog of a client that asks (KeyUpdate) and does not read the answers

cdef enum Moved:
    MOVED                   # something changed: look again
    IDLE                    # nothing to move
    ENDED                   # the source has ended and everything is delivered: shut the destination
    YIELDED                 # the source's budget is used up
    SOURCE_BROKEN
    DESTINATION_BROKEN


cdef uint64_t all_moved = 0     # bytes, of all connections


cdef uint64_t relay_moved() noexcept nogil:
    """How many bytes this worker has moved so far."""
    return all_moved


cdef Moved move(Transport *source, Transport *destination, uint64_t *counter, int size) noexcept nogil:
    cdef int n
    if destination.ops.backlog(destination):
        n = destination.ops.flush(destination)
        if n == IO_ERROR:
            return DESTINATION_BROKEN
        if n == IO_AGAIN:
            return IDLE
    if destination.shut:
        return IDLE
    n = source.ops.read(source, plaintext, size)
    if n > 0:
        counter[0] += n
        destination.more = source.rdhup     # its end is in the queue behind these bytes, and goes with them
        return DESTINATION_BROKEN if destination.ops.write(destination, plaintext, n) == IO_ERROR else MOVED
    if n == IO_END:
        return ENDED
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


cdef Moved up(Session *s) noexcept nogil:
    """Client to server."""
    cdef Moved moved
    if s.up_cut or s.client.ops.backlog(&s.client) > UNREAD:
        return IDLE
    moved = move(&s.client, &s.server, &s.received, SCRATCH)
    if moved == ENDED:
        if not s.client.clean and not s.client.shut and s.listener.on_truncated == TRUNCATED_RESETS:
            return ENDED
        moved = MOVED if s.server.ops.shutdown(&s.server) != IO_ERROR else DESTINATION_BROKEN
    if moved == DESTINATION_BROKEN:
        s.up_cut = True
        return MOVED
    return moved


cdef Moved down(Session *s) noexcept nogil:
    """Server to client."""
    cdef Moved moved
    if s.down_cut:
        return IDLE
    moved = move(&s.server, &s.client, &s.sent, PIECE)
    if moved == ENDED:
        moved = MOVED if s.client.ops.shutdown(&s.client) != IO_ERROR else DESTINATION_BROKEN
    if moved == DESTINATION_BROKEN and s.client.error:
        s.down_cut = True
        return MOVED
    return moved


cdef bint over(Transport *destination, bint cut) noexcept nogil:
    return cut or (destination.shut and not destination.ops.backlog(destination))


cdef Pumped pump(Session *s) noexcept nogil:
    """Move what can be moved within the budget of a turn."""
    global all_moved
    cdef uint64_t received = s.received
    cdef uint64_t sent = s.sent
    cdef uint64_t begin = received + sent
    cdef Moved moved_up, moved_down
    cdef Pumped result
    while True:
        moved_up = up(s)
        moved_down = down(s)
        note_end(s)
        if moved_up == ENDED:
            result = PUMP_TRUNCATED
        elif moved_up == SOURCE_BROKEN or moved_down == DESTINATION_BROKEN:
            result = PUMP_CLIENT_BROKEN
        elif moved_down == SOURCE_BROKEN:
            result = PUMP_SERVER_BROKEN
        elif over(&s.server, s.up_cut) and over(&s.client, s.down_cut):
            result = PUMP_DONE
        elif s.received + s.sent - begin >= BUDGET or moved_up == YIELDED or moved_down == YIELDED:
            result = PUMP_AGAIN
        elif moved_up == MOVED or moved_down == MOVED:
            continue
        else:
            result = PUMP_WAIT
        break
    if s.received + s.sent != begin:
        s.active = timers_now()
        all_moved += s.received + s.sent - begin
        s.listener.counters.received += s.received - received
        s.listener.counters.sent += s.sent - sent
    return result
