"""The janitor: slow periodic work on all sessions, in slices of the loop.

Every session is looked at about once a second: has it fallen silent (its buffers go back, and when a good part of all
has, the pages between them too), is it cut - its listener is
no more, its server was taken out and the time to drain is over -, how long is its client's certificate good for. Dates
are compared with the wall clock, which may jump. Ending one costs 20 to 50 us, and the certificates of thousands may
end in one second: so each round of the loop goes on for the time of a handshake step at most.

A re-check of live connections after a reload that has changed trust goes over all sessions once, as fast as slices of a
given length allow.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from nlbcore.engine.counters cimport EXPIRING, LISTENERS, block, shared
from nlbcore.engine.linux.clock cimport CLOCK_REALTIME, clock_gettime, timespec
from nlbcore.engine.openssl cimport X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_REVOKED, X509_V_OK
from nlbcore.engine.memory cimport memory_trim
from nlbcore.engine.present cimport present_before
from nlbcore.engine.rules cimport rules_reason
from nlbcore.engine.session cimport session_end
from nlbcore.engine.slab cimport CONNECT, Listener, RELAY, Session, session_at, session_count, session_slots
from nlbcore.engine.timers cimport timers_clock_us, timers_now
from nlbcore.engine.tls cimport tls_rest
from nlbcore.engine.trust cimport trust_epoch, trusted_now
from nlbcore.termination cimport BECAME_EXPIRED, BECAME_REFUSED, BECAME_REVOKED, DRAINED

cdef enum:
    SLICES = 10             # beats in which all sessions are looked at
    LEAST = 2048            # slots that are looked at in a beat
    LOOKED = 32             # slots between two looks at the clock
    REST_MS = 2000          # silence after which a connection gives its buffers back
    RESTED = 16             # one of so many has fallen silent: memory goes back to the system
    DAY = 86400

cdef uint32_t swept = 0
cdef uint32_t to_sweep = 0          # slots that wait for a look
cdef uint32_t rested = 0            # connections that have given their buffers back since memory went back
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
    """Each certificate once for a listener, though many connections at several workers may show it."""
    cdef uint16_t row = s.listener.row
    cdef int i
    if s.identity == NULL or not s.proven or s.verify_error != X509_V_OK:
        return
    if s.identity.counted_in != round_of_counting:
        s.identity.counted_in = round_of_counting
        memset(s.identity.counted_for, 0, sizeof(s.identity.counted_for))
    if s.identity.counted_for[row // 8] & (1 << row % 8):
        return
    s.identity.counted_for[row // 8] |= <uint8_t>(1 << row % 8)
    if present_before(row, s.identity):
        return
    for i in range(EXPIRING):
        if s.identity.not_after - now < days[i] * DAY:
            counting[row][i] += 1


cdef void give_back() noexcept nogil:
    """All sessions were looked at: is it worth while to give memory back to the system?"""
    global rested
    if rested and rested * RESTED >= session_count():
        memory_trim()
        rested = 0


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


cdef bint expired(const Session *s, int64_t today) noexcept nogil:
    """Whether its client's certificate has come to its end, and that matters to its listener as it is today."""
    cdef const Listener *now = s.listener
    if s.identity == NULL or not s.proven or today <= s.identity.not_after:
        return False
    if now.successor != NULL:
        now = now.successor
    return now.verify and not now.report and not now.keep_expired


cdef bint look_at(Session *s, int64_t today) noexcept nogil:
    """Whether that was its end."""
    global rested
    if s.state != RELAY and s.state != CONNECT:
        return False
    if cut(s, timers_now()):
        session_end(s, DRAINED)
        return True
    if expired(s, today):
        refuse_live(s, X509_V_ERR_CERT_HAS_EXPIRED)
        return True
    count_expiring(s, today)
    if s.state == RELAY and s.client.stretched and timers_now() - s.active > REST_MS:
        rested += tls_rest(&s.client)
    return False


cdef void sweep_begin() noexcept nogil:
    """A beat: a tenth of all sessions is to be looked at, with sweep()."""
    global to_sweep
    cdef uint32_t slots = session_slots()
    to_sweep = min(slots, to_sweep + slots // SLICES + LEAST)


cdef bint sweeping() noexcept nogil:
    """Whether some still wait for it."""
    return to_sweep > 0


cdef void sweep(uint64_t us) noexcept nogil:
    """Go on for `us`."""
    global swept, to_sweep
    cdef uint64_t until = timers_clock_us() + us
    cdef bint ended
    cdef timespec today
    clock_gettime(CLOCK_REALTIME, &today)
    while to_sweep:
        if swept >= session_slots():
            swept = 0
            show_counted()
            give_back()
        ended = look_at(session_at(swept), today.tv_sec)
        swept += 1
        to_sweep -= 1
        if (ended or swept % LOOKED == 0) and timers_clock_us() >= until:
            return


cdef void refuse_live(Session *s, int error) noexcept nogil:
    """Its client would not be let in any more."""
    s.verify_error = error
    s.verify_depth = 0
    s.detail = rules_reason(error, s.identity)
    if error == X509_V_ERR_CERT_REVOKED:
        session_end(s, BECAME_REVOKED)
    elif error == X509_V_ERR_CERT_HAS_EXPIRED:
        session_end(s, BECAME_EXPIRED)
    else:
        session_end(s, BECAME_REFUSED)


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
    refuse_live(s, error)


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
