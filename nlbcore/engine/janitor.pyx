"""The janitor: slow periodic work on all sessions, in slices of the loop.

Every session is looked at about once a second: has it fallen silent (its buffers go back), is it cut - its listener is
no more, its server was taken out and the time to drain is over -, how long is its client's certificate good for.

A re-check of live connections after a reload that has changed trust goes over all sessions once, as fast as slices of a
given length allow.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from nlbcore.engine.counters cimport EXPIRING, LISTENERS, block, shared
from nlbcore.engine.linux.clock cimport CLOCK_REALTIME, clock_gettime, timespec
from nlbcore.engine.openssl cimport X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_REVOKED, X509_V_OK, ossl
from nlbcore.engine.session cimport session_end
from nlbcore.engine.slab cimport CONNECT, RELAY, Session, session_at, session_slots
from nlbcore.engine.timers cimport timers_clock_us, timers_now
from nlbcore.engine.tls cimport tls_rest
from nlbcore.engine.trust cimport trust_epoch, trusted_now
from nlbcore.termination cimport BECAME_EXPIRED, BECAME_REFUSED, BECAME_REVOKED, DRAINED

cdef enum:
    SLICES = 10             # calls of sweep() that look at all sessions
    LEAST = 2048            # slots that a call looks at
    REST_MS = 2000          # silence after which a connection gives its buffers back
    DAY = 86400

cdef uint32_t swept = 0
cdef uint32_t round_of_counting = 1
cdef int64_t counting[LISTENERS][EXPIRING]
cdef int64_t shown[LISTENERS][EXPIRING]
cdef int64_t days[EXPIRING]
days[0] = 1
days[1] = 7
days[2] = 14
days[3] = 30

cdef uint32_t rechecked = 0         # slots that the re-check has behind it
cdef uint32_t to_recheck = 0        # slots that there were when it began
cdef uint32_t closed_by_it = 0


cdef void count_expiring(Session *s, int64_t now) noexcept nogil:
    """Each certificate once for a listener, though many connections may show it."""
    cdef uint16_t row = s.listener.row
    cdef int i
    if s.identity == NULL or not s.proven:
        return
    if s.identity.counted_in != round_of_counting:
        s.identity.counted_in = round_of_counting
        memset(s.identity.counted_for, 0, sizeof(s.identity.counted_for))
    if s.identity.counted_for[row // 8] & (1 << row % 8):
        return
    s.identity.counted_for[row // 8] |= <uint8_t>(1 << row % 8)
    for i in range(EXPIRING):
        if s.identity.not_after - now < days[i] * DAY:
            counting[row][i] += 1


cdef void show_counted() noexcept nogil:
    """All sessions were looked at. Rows that do not change are not touched: untouched memory costs nothing."""
    global round_of_counting
    cdef int row, i
    for row in range(LISTENERS):
        for i in range(EXPIRING):
            if counting[row][i] != shown[row][i]:
                shown[row][i] = block.listeners[row].expiring[i] = counting[row][i]
    memset(counting, 0, sizeof(counting))
    round_of_counting += 1


cdef bint cut(const Session *s, uint64_t now) noexcept nogil:
    """Whether its time is over because its listener or its server has been taken out."""
    cdef uint64_t at
    if s.listener.retired and s.listener.successor == NULL:
        at = shared.listener_cut_ms[s.listener.row]
        if at and now >= at:
            return True
    if s.tries:
        at = shared.orders[s.server_row].cut_ms
        return at and now >= at
    return False


cdef void look_at(Session *s, int64_t today) noexcept nogil:
    if s.state != RELAY and s.state != CONNECT:
        return
    if cut(s, timers_now()):
        session_end(s, DRAINED)
        return
    count_expiring(s, today)
    if s.state == RELAY and s.client.stretched and timers_now() - s.active > REST_MS:
        tls_rest(&s.client)


cdef void sweep() noexcept nogil:
    """A slice: ten of them go over all sessions."""
    global swept
    cdef uint32_t slots = session_slots()
    cdef uint32_t n = slots // SLICES + LEAST
    cdef uint32_t _i
    cdef timespec today
    clock_gettime(CLOCK_REALTIME, &today)
    if n > slots:
        n = slots
    for _i in range(n):
        if swept >= slots:
            swept = 0
            show_counted()
        look_at(session_at(swept), today.tv_sec)
        swept += 1


cdef void recheck_begin() noexcept nogil:
    """Trust has changed: go over all sessions, with recheck_slice()."""
    global rechecked, to_recheck, closed_by_it
    trust_epoch()
    rechecked = closed_by_it = 0
    to_recheck = session_slots()


cdef void recheck(Session *s) noexcept nogil:
    global closed_by_it
    cdef int error
    if s.state != RELAY and s.state != CONNECT or s.listener.successor == NULL or s.listener.successor.keep_live:
        return
    error = trusted_now(s)
    if error == X509_V_OK:
        return
    closed_by_it += 1
    if error < 0:
        s.detail = b"a client certificate is required now"
        session_end(s, BECAME_REFUSED)
        return
    s.verify_error = error
    s.detail = ossl.X509_verify_cert_error_string(error)
    if error == X509_V_ERR_CERT_REVOKED:
        session_end(s, BECAME_REVOKED)
    elif error == X509_V_ERR_CERT_HAS_EXPIRED:
        session_end(s, BECAME_EXPIRED)
    else:
        session_end(s, BECAME_REFUSED)


cdef bint recheck_slice(uint64_t us) noexcept nogil:
    """Go on for `us`, one verification more at most; whether all are done."""
    global rechecked
    cdef uint64_t until = timers_clock_us() + us
    while rechecked < to_recheck and timers_clock_us() < until:
        recheck(session_at(rechecked))
        rechecked += 1
    return rechecked >= to_recheck


cdef uint32_t recheck_closed() noexcept nogil:
    """Connections that this re-check has closed."""
    return closed_by_it
