"""Which refusals are told one by one, so that a flood of them is not a flood of lines.

Refusals are alike when they have the same listener, the same word and the same client certificate (its SHA-256; nothing
of it is parsed). Of those that are alike so many a second are told as the configuration says, and of one listener and
word, whatever the certificates - a stranger can make any number of them -, MANY times as many. The others are counted,
and when the second is over one line says how many they were. What a listener has ended with is counted in any case,
elsewhere.

Only what a stranger can bring about at will is limited: not what has happened to a client that was let in.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy, memset
from nlbcore.engine.journal cimport journal_untold
from nlbcore.engine.slab cimport Session
from nlbcore.engine.timers cimport timers_now
from nlbcore.termination cimport (
    CLIENT_ALERT, CPS_LIMIT, DENIED, NO_CERTIFICATE, NO_SHARED_CIPHER, OVERLOAD,
)

cdef enum:
    MANY = 10
    KINDS = 1024            # of refusals that are told apart at the same time
    NEAR = 8                # places where one of them can stand

# Refusals that are alike.
cdef struct Alike:
    uint64_t second         # the one that is counted; 0: nothing is
    uint32_t told
    uint32_t generation     # of the last one
    uint64_t untold
    uint16_t row
    uint8_t word
    uint8_t certificate     # whether `sha256` is one
    unsigned char sha256[32]

cdef Alike alike[KINDS]
cdef bint some_untold = False


cdef bint limited(int word) noexcept nogil:
    return (NO_CERTIFICATE <= word <= DENIED or NO_SHARED_CIPHER <= word <= CLIENT_ALERT
            or CPS_LIMIT <= word <= OVERLOAD)


cdef void tell_sum(Alike *a) noexcept nogil:
    if a.untold:
        journal_untold(a.row, a.generation, a.word, a.untold, a.sha256 if a.certificate else NULL)
        a.untold = 0


cdef Alike *look_up(uint16_t row, int word, const unsigned char *sha256) noexcept nogil:
    """Where refusals like this are counted, in this second; the one silent for longest makes room for a new kind."""
    cdef uint64_t second = timers_now() // 1000
    cdef uint32_t start = (<uint32_t>row * 64 + <uint32_t>word) * 2654435761U
    cdef uint32_t salt
    cdef int i
    cdef Alike *a
    cdef Alike *oldest = NULL
    if sha256 != NULL:
        memcpy(&salt, sha256, sizeof(salt))
        start ^= salt
    for i in range(NEAR):
        a = &alike[(start + i) % KINDS]
        if (a.second and a.row == row and a.word == word and a.certificate == (sha256 != NULL)
                and (sha256 == NULL or memcmp(a.sha256, sha256, 32) == 0)):
            if a.second != second:
                tell_sum(a)
                a.second = second
                a.told = 0
            return a
        if oldest == NULL or a.second < oldest.second:
            oldest = a
    tell_sum(oldest)
    memset(oldest, 0, sizeof(Alike))
    oldest.second = second
    oldest.row = row
    oldest.word = <uint8_t>word
    if sha256 != NULL:
        oldest.certificate = True
        memcpy(oldest.sha256, sha256, 32)
    return oldest


cdef bint within(Alike *a, const Session *s, uint32_t limit) noexcept nogil:
    """Whether one more may be told; else it is counted there."""
    global some_untold
    a.generation = s.listener.generation
    if a.told < limit:
        a.told += 1
        return True
    a.untold += 1
    some_untold = True
    s.listener.counters.suppressed += 1
    return False


cdef bint refusal_told(const Session *s) noexcept nogil:
    """Whether the end of this connection is told in a line of its own."""
    cdef uint32_t limit = s.listener.refusals
    cdef int word = s.termination
    if limit == 0 or not limited(word):
        return True
    if s.identity != NULL and not within(look_up(s.listener.row, word, s.identity.sha256), s, limit):
        return False
    return within(look_up(s.listener.row, word, NULL), s, limit * MANY if s.identity != NULL else limit)


cdef void refusals_sum(bint all_of_them) noexcept nogil:
    """Tell how many were not told in the seconds that are over; with `all_of_them`, up to now."""
    global some_untold
    cdef uint64_t second = timers_now() // 1000
    cdef int i
    if not some_untold:
        return
    some_untold = False
    for i in range(KINDS):
        if alike[i].untold and (all_of_them or alike[i].second < second):
            tell_sum(&alike[i])
        elif alike[i].untold:
            some_untold = True
