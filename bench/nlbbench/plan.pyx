"""What is planned, begun and counted: the sizes of a piece, the schedule, the counters. No sockets.

A connection carries *pieces*, numbered from 0: piece i is what one exchange sends and what it expects back, both cut
from the pattern at a place that follows from the connection's base and i. Two cursors go through them: (`sending`,
`tx`) and (`receiving`, `rx`); `begun` says how many pieces may be sent. Work that keeps the line busy begins several
at once (`depth`), other work one. So every kind of work is the same code with other sizes.

Whether an exchange may begin, and when it was planned, is asked in one place, `may_begin`. In the open model the answer
comes from arithmetic on the schedule (arrival k is at start + offset + k * period): a backlog is the difference
between the arrivals that are due and those begun, and needs no memory. An exchange is counted when it was planned
within the measurement, whenever it ends; so what a stalled server makes late is late in the figures.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset, strncmp
from nlbbench.board cimport ROWS, SAMPLES, TEXT, Row, Sample, Tally
from nlbbench.client_ssl cimport cssl
from nlbbench.pattern cimport PERIOD
from nlbbench.wire cimport Fault
from nlbcore.engine.linux.clock cimport CLOCK_MONOTONIC, clock_gettime, timespec
from nlbcore.engine.openssl cimport ossl

cdef uint64_t dice = 1


cdef int64_t clock() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <int64_t>at.tv_sec * 1000000000 + at.tv_nsec


cdef void seed(uint64_t number) noexcept nogil:
    global dice
    dice = number | 1


cdef uint64_t roll() noexcept nogil:
    """xorshift64: a place in the pattern for a new connection."""
    global dice
    dice ^= dice << 13
    dice ^= dice >> 7
    dice ^= dice << 17
    return dice % PERIOD


# ---------------------------------------------------------------- what a piece is

cdef void request(Connection *c, uint64_t piece, unsigned char *into) noexcept nogil:
    """Place and size, big-endian: what a source or sink is told, and what a sink that got everything right answers."""
    cdef uint64_t place = spot(c, piece), size = body(c, piece)
    cdef int i
    for i in range(8):
        into[i] = <unsigned char>(place >> (56 - 8 * i))
        into[8 + i] = <unsigned char>(size >> (56 - 8 * i))


# ---------------------------------------------------------------- counting

cdef void note(Population *p, Fault *fault, uint64_t right, uint64_t how_many) noexcept nogil:
    """Count failed exchanges, and describe the first ones of each kind."""
    cdef Tally *t = p.tally
    cdef Sample *sample
    if t.failed[fault.kind] < SAMPLES:
        sample = &t.samples[fault.kind][t.failed[fault.kind]]
        sample.error = fault.error
        sample.verify = fault.verify
        sample.code = fault.code
        sample.place = right
        sample.at = job.now
    t.failed[fault.kind] += how_many
    t.all_failed += how_many
    job.place.last = job.now


cdef void describe(Connection *c) noexcept nogil:
    """Count what was negotiated."""
    cdef char text[TEXT]
    cdef const char *words[3]
    cdef int i, size = 0
    cdef Row *row
    memset(text, 0, TEXT)
    words[0] = b"TCP"
    words[1] = words[2] = NULL
    if c.wire.ssl != NULL:
        words[0] = cssl.SSL_get_version(c.wire.ssl)
        words[1] = ossl.SSL_CIPHER_get_name(ossl.SSL_get_current_cipher(c.wire.ssl))
        words[2] = ossl.SSL_get0_group_name(c.wire.ssl)
    for i in range(3):
        if words[i] == NULL:
            continue
        if size and size < TEXT - 1:
            text[size] = 32
            size += 1
        while words[i][0] and size < TEXT - 1:
            text[size] = words[i][0]
            size += 1
            words[i] += 1
    for i in range(ROWS):
        row = &c.of.tally.rows[i]
        if row.count == 0:
            memcpy(row.text, text, TEXT)
        if strncmp(row.text, text, TEXT) == 0:
            row.count += 1
            return


cdef bint may_begin(Population *p, int64_t *planned) noexcept nogil:
    """Ask for an exchange: True when one may begin now, with the moment it was planned for."""
    cdef int64_t at
    if not job.scheduled or p.work == IDLE or (p.limit and p.begun >= p.limit):
        return False
    if p.period > 0:
        at = job.control.schedule + <int64_t>(p.offset + p.arrival * p.period)
        if at > job.now or (job.control.end != 0 and at >= job.control.end):
            return False
        p.arrival += 1
        planned[0] = at
    else:
        if ending():
            return False
        planned[0] = job.now
    if counts(planned[0]):
        p.begun += 1
        p.tally.planned += 1
    return True


cdef uint64_t backlog(Population *p) noexcept nogil:
    """Open model: arrivals of the measurement that are due and have not begun."""
    cdef int64_t at = job.control.schedule + <int64_t>(p.offset + p.arrival * p.period)
    cdef int64_t until = job.control.end if job.control.end and job.control.end < job.now else job.now
    if p.period == 0 or not job.scheduled or (p.limit and p.begun >= p.limit) or at >= until:
        return 0
    return 1 + <uint64_t>((until - at - 1) / p.period)
