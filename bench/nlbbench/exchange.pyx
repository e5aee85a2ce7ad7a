"""The exchanges of a connection: dialling, handshake, sending, comparing what comes back, ending. No Python and no GIL.

Theory of operation. The connections' states are FREE, DIALLING, SHAKING, OPEN, CLOSING; what they carry is in plan.pyx.
Every handler ends in one of `pump` (send what may be sent), `fail` (all that is in flight has failed) and `settle` (the
connection has ended as it should), and leaves the connection in a state in which an event or the janitor finds it
again.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp
from nlbbench.board cimport CORRUPT, HANDSHAKE, NOT_FULL, NOT_RESUMED, SURPLUS, TRUNCATED, Tally
from nlbbench.client_ssl cimport cssl
from nlbbench.hist cimport hist_record
from nlbbench.pattern cimport PERIOD, pattern
from nlbbench.plan cimport (
    CLOSING, CONNECT, DIALLING, DOWNLOAD, DUPLEX, FREE, HEADER, IDLE, LINGER, MS, OPEN, RING, SHAKING, UPLOAD, WINDOW,
    Connection, Population, clock, counts, describe, ending, incoming, job, may_begin, note, outgoing, request, roll,
    spot,
)
from nlbbench.wire cimport (
    IO_AGAIN, IO_END, IO_FAULT, RECORD, Fault, plain, received, wire_close, wire_dial, wire_flush,
    wire_goodbye, wire_handshake, wire_judge, wire_read, wire_receive, wire_rest, wire_secure, wire_write,
)
from nlbcore.engine.linux.epoll cimport (
    EPOLLIN, EPOLLOUT, EPOLL_CTL_ADD, EPOLL_CTL_MOD, epoll_ctl, epoll_event,
)
from nlbcore.engine.openssl cimport ossl

cdef enum:
    BURST = 1 << 20         # bytes sent in one go before others have their turn
    PAUSE = 10              # ms before the next try after a failure (closed model); doubles
    LONGEST_PAUSE = 500
    TRIES = 100             # full handshakes for a session that can be resumed


# ---------------------------------------------------------------- beginning

cdef void watch(Connection *c, uint32_t flags) noexcept nogil:
    cdef epoll_event event
    if flags == c.watched:
        return
    event.events = flags
    event.data.u64 = <uint64_t>(c - job.connections)
    epoll_ctl(job.epfd, EPOLL_CTL_MOD if c.watched else EPOLL_CTL_ADD, c.wire.fd, &event)
    c.watched = flags


cdef void begin(Connection *c, int64_t planned) noexcept nogil:
    """Let one more piece go. The connection is dialled when it is not open."""
    cdef uint64_t slot = c.begun % RING
    c.planned[slot] = planned
    c.started[slot] = job.now
    c.begun += 1
    c.of.flying += 1
    if c.deadline == 0:
        c.deadline = job.now + job.patience
    if c.state == FREE:
        dial(c)


cdef void dial(Connection *c) noexcept nogil:
    cdef Fault fault
    cdef int n
    c.base = roll()
    c.dialled = clock()
    c.fresh = True
    n = wire_dial(&c.wire, &job.peer, &fault)
    if n < 0:
        fail(c, &fault)
        return
    c.state = DIALLING
    if n == 1:
        secure(c)
    else:
        watch(c, EPOLLIN | EPOLLOUT)


cdef void secure(Connection *c) noexcept nogil:
    """TCP is there: the first flight of the handshake."""
    cdef Fault fault
    c.state = SHAKING
    if job.peer.context == NULL:
        established(c)
        return
    if wire_secure(&c.wire, &job.peer, c.session, c.of.work == IDLE, &fault) < 0:
        fail(c, &fault)
        return
    shake(c)


cdef void shake(Connection *c) noexcept nogil:
    cdef Fault fault, ignored
    cdef int n = wire_handshake(&c.wire, &fault)
    if n == 1:
        established(c)
    elif n == IO_FAULT:
        wire_flush(&c.wire, &ignored)           # the alert that says why
        fail(c, &fault)
    else:
        n = wire_flush(&c.wire, &fault)
        if n == IO_FAULT:
            fail(c, &fault)
        else:
            watch(c, EPOLLIN if n == 1 or c.wire.deaf else EPOLLIN | EPOLLOUT)


cdef void established(Connection *c) noexcept nogil:
    """The handshake is over for us; whether the server takes us, only its first answer shows."""
    cdef Fault fault
    cdef bint reused
    if c.wire.ssl != NULL and wire_judge(&c.wire, &job.peer, &fault) < 0:
        fail(c, &fault)
        return
    c.state = OPEN
    c.shaken = clock()
    c.wrong = -1
    describe(c)
    if c.wire.ssl != NULL:
        reused = ossl.SSL_session_reused(c.wire.ssl)
        if reused and not c.of.resumed:
            c.wrong = NOT_FULL
        elif not reused and c.of.resumed and c.primed:
            c.wrong = NOT_RESUMED       # its session is taken nevertheless, for the next one
    pump(c)


# ---------------------------------------------------------------- sending

cdef inline bint full(Connection *c) noexcept nogil:
    """A duplex stream has so many bytes on their way that more would only fill buffers."""
    return c.of.work == DUPLEX and (
        c.sending * c.of.size + c.tx >= c.receiving * c.of.size + c.rx + WINDOW)


cdef int give(Connection *c, Fault *fault) noexcept nogil:
    """Hand over the next bytes of the piece that is being sent: how many were taken, or the answer of wire_write()."""
    cdef unsigned char header[HEADER]
    cdef uint64_t at = c.tx
    cdef uint64_t left = outgoing(c, c.sending) - c.tx
    cdef uint64_t slot = c.sending % RING
    cdef int n
    if at == 0 and c.of.depth > 1:
        c.planned[slot] = c.started[slot] = job.now     # let go ahead of its time: it begins with its first byte
    if c.of.work in (DOWNLOAD, UPLOAD):
        if at < HEADER:
            request(c, c.sending, header)
            n = wire_write(&c.wire, header + at, <int>(HEADER - at), fault)
        else:
            at -= HEADER
            n = wire_write(&c.wire, pattern + (spot(c, c.sending) + at) % PERIOD,
                           <int>(left if left < RECORD else RECORD), fault)
    else:
        n = wire_write(&c.wire, pattern + (spot(c, c.sending) + at) % PERIOD,
                       <int>(left if left < RECORD else RECORD), fault)
    if n <= 0:
        return n
    c.tx += <uint64_t>n
    if counts(job.now):
        c.of.tally.sent += <uint64_t>n
    if c.tx == outgoing(c, c.sending):
        c.sending += 1
        c.tx = 0
    return n


cdef void pump(Connection *c) noexcept nogil:
    """Send what may be sent, until the socket is full or nothing is left; then wait for what is missing."""
    cdef Fault fault
    cdef int64_t planned
    cdef int n
    cdef int sent = 0, batch
    while True:
        batch = 0
        while batch < 4 * RECORD and not full(c):
            if c.sending == c.begun:
                if not (c.of.depth > 1 and c.begun - c.receiving < c.of.depth and may_begin(c.of, &planned)):
                    break
                begin(c, planned)
            n = give(c, &fault)
            if n == IO_FAULT:
                fail(c, &fault)
                return
            if n <= 0:
                watch(c, EPOLLIN if c.wire.deaf else EPOLLIN | EPOLLOUT)
                return
            batch += n
        n = wire_flush(&c.wire, &fault)
        if n == IO_FAULT:
            fail(c, &fault)
            return
        if n == IO_AGAIN:
            watch(c, EPOLLIN if c.wire.deaf else EPOLLIN | EPOLLOUT)
            return
        sent += batch
        if batch == 0:
            watch(c, EPOLLIN)
            return
        if sent >= BURST:
            watch(c, EPOLLIN | EPOLLOUT)
            return


# ---------------------------------------------------------------- receiving

cdef int take(Connection *c, const unsigned char *data, int size, Fault *fault) noexcept nogil:
    """Compare what has come with what must come; 0 or IO_FAULT."""
    cdef unsigned char answer[HEADER]
    cdef const unsigned char *expected
    cdef uint64_t left
    cdef int step
    fault.error = 0
    fault.verify = 0
    fault.code = 0
    if counts(job.now):
        c.of.tally.received += <uint64_t>size
    while size > 0:
        if c.receiving == c.begun:
            fault.kind = SURPLUS
            return IO_FAULT
        left = incoming(c, c.receiving) - c.rx
        step = size if <uint64_t>size < left else <int>left
        if c.of.work == UPLOAD:
            request(c, c.receiving, answer)
            expected = answer + c.rx
        else:
            if step > RECORD:
                step = RECORD
            expected = pattern + (spot(c, c.receiving) + c.rx) % PERIOD
        if memcmp(data, expected, <size_t>step) != 0:
            while data[0] == expected[0]:
                data += 1
                expected += 1
                c.rx += 1
            fault.kind = CORRUPT
            return IO_FAULT
        c.rx += <uint64_t>step
        data += step
        size -= step
        if c.rx == incoming(c, c.receiving):
            finish(c)
    return 0


cdef void finish(Connection *c) noexcept nogil:
    """The piece that is being received is complete: count it."""
    cdef uint64_t slot = c.receiving % RING
    cdef Tally *t = c.of.tally
    cdef int64_t planned = c.planned[slot]
    cdef int64_t started = c.started[slot]
    cdef Fault fault
    job.now = clock()
    if c.of.work == DOWNLOAD and c.of.depth > 1 and c.last > started:
        planned = started = c.last      # it was asked for ahead, and begins where the one before it ended
    c.last = job.now
    c.receiving += 1
    c.rx = 0
    c.of.flying -= 1
    c.deadline = job.now + job.patience if c.receiving < c.begun else 0
    c.pause = 0
    if c.fresh:
        c.fresh = False
        if counts(c.dialled):
            t.opened += 1
            if c.wire.ssl != NULL:
                if ossl.SSL_session_reused(c.wire.ssl):
                    t.resumed += 1
                else:
                    t.full += 1
            hist_record(t.handshake, <uint64_t>(c.shaken - c.dialled))
    if c.wrong >= 0:
        fault.kind = c.wrong
        fault.error = 0
        fault.verify = 0
        fault.code = 0
        note(c.of, &fault, 0, 1)
        c.wrong = -1
    else:
        t.all_done += 1
        if counts(planned) or c.of.work == IDLE and slot == 0:
            t.done += 1
            hist_record(t.latency, <uint64_t>(job.now - planned))
            hist_record(t.service, <uint64_t>(job.now - started))
            job.place.last = job.now
    primed(c)


cdef void primed(Connection *c) noexcept nogil:
    """Before the measurement: has the connection done what it had to do? A server may give tickets only now and then,
    so a session is good when it has been resumed once, and that is tried TRIES times."""
    if c.primed or c.of.work == IDLE and c.receiving < (2 if c.of.burst else 1):
        return
    if c.of.resumed and not ossl.SSL_session_reused(c.wire.ssl) and c.tries < TRIES:
        c.tries += 1
        return
    c.primed = True
    job.opening -= 1


cdef void readable(Connection *c) noexcept nogil:
    """Something has come, or the other side has ended."""
    cdef Fault fault
    cdef int n
    cdef int got = wire_receive(&c.wire, &fault)
    if got == IO_AGAIN:
        return
    if got > 0 and c.state == SHAKING:
        shake(c)
        if c.state != OPEN:
            return
    if got > 0 and c.wire.ssl == NULL:
        if take(c, received, got, &fault) < 0:
            fail(c, &fault)
            return
    elif got > 0:
        while True:
            n = wire_read(&c.wire, &fault)
            if n == IO_AGAIN:
                break
            if n == IO_END:
                ended(c)
                return
            if n == IO_FAULT or take(c, plain, n, &fault) < 0:
                fail(c, &fault)
                return
    elif got == IO_FAULT and c.state != CLOSING:
        if c.state == SHAKING:
            fault.kind = HANDSHAKE
        fail(c, &fault)
        return
    else:
        ended(c)
        return
    if c.state == OPEN:
        proceed(c)


cdef void ended(Connection *c) noexcept nogil:
    """The other side has ended: as it should after our end, too early before it."""
    cdef Fault fault
    if c.state == CLOSING:
        settle(c)
        return
    fault.kind = HANDSHAKE if c.state == SHAKING else TRUNCATED
    fault.error = 0
    fault.verify = 0
    fault.code = 0
    fail(c, &fault)


# ---------------------------------------------------------------- what comes next

cdef void proceed(Connection *c) noexcept nogil:
    """After bytes have come: the next exchange of an open connection, or its end."""
    cdef int64_t planned
    if c.receiving < c.begun:
        pump(c)
        return
    if c.of.work == CONNECT:
        goodbye(c)
        return
    if c.of.work == IDLE:
        if c.receiving == 1 and c.of.burst:
            begin(c, job.now)
            pump(c)
        elif c.receiving:
            wire_rest(&c.wire)
        return
    if c.of.period > 0:
        queue(c)
        pump(c)
        return
    if may_begin(c.of, &planned):
        begin(c, planned)
    pump(c)


cdef void goodbye(Connection *c) noexcept nogil:
    """End the connection in order: close_notify, FIN, and then the other side's end, so that it is not us who keep the
    port waiting (TIME_WAIT)."""
    cdef Fault fault
    cdef int n
    if c.state != CLOSING:
        c.state = CLOSING
        c.deadline = job.now + LINGER * <int64_t>MS
        if c.of.resumed and c.wire.ssl != NULL:
            if c.session != NULL:
                cssl.SSL_SESSION_free(c.session)
            c.session = cssl.SSL_get1_session(c.wire.ssl)
    n = wire_goodbye(&c.wire, &fault)
    if n == IO_FAULT:
        settle(c)
    else:
        watch(c, EPOLLIN if n == 1 or c.wire.deaf else EPOLLIN | EPOLLOUT)


cdef void drop(Connection *c) noexcept nogil:
    wire_close(&c.wire)
    c.state = FREE
    c.watched = 0
    c.begun = c.sending = c.receiving = c.tx = c.rx = 0
    c.deadline = 0
    c.wrong = -1


cdef void settle(Connection *c) noexcept nogil:
    """The connection is gone, as it should: its place is free."""
    cdef int64_t planned
    drop(c)
    if not c.primed:
        if ending():
            c.primed = True
            job.opening -= 1
        else:
            begin(c, job.now)
    elif c.of.period > 0:
        queue(c)
    elif may_begin(c.of, &planned):
        begin(c, planned)


cdef void queue(Connection *c) noexcept nogil:
    """A connection of the open model has nothing to do: to the end of the line."""
    cdef Population *p = c.of
    if c.waiting or not c.primed:
        return
    c.waiting = True
    p.line[(p.head + p.free) % p.count] = c
    p.free += 1


cdef void fail(Connection *c, Fault *fault) noexcept nogil:
    """Every exchange in flight on the connection has failed, or the silent connection itself; it is closed."""
    cdef uint64_t flying = c.begun - c.receiving
    note(c.of, fault, c.rx, flying if flying else 1)
    c.of.flying -= <uint32_t>flying
    drop(c)
    if not c.primed:
        c.primed = True
        job.opening -= 1
    if c.of.period > 0:
        queue(c)
        return
    c.pause = PAUSE if c.pause == 0 else c.pause * 2 if c.pause < LONGEST_PAUSE // 2 else LONGEST_PAUSE
    c.retry = job.now + c.pause * MS
    job.pausing += 1
