"""Who is connected, over all workers: for each client certificate at each listener the number of its connections.

Each worker keeps a table in its block of the segment (`counters.Holder`) and alone writes it; all read it, without a
lock. The supervisor empties it when the worker is gone, like the gauges. So a limit holds over all workers: who counts
itself first and looks then never lets one too many in, though two at the same moment may both be refused.

A certificate is known by 64 bits of the SHA-256 of what is signed in it (TBSCertificate), mixed with its listener's
row, which stays the same over reloads. Its fingerprint would not do: whoever has a certificate with an ECDSA signature
can make a twin of it, with the other signature that is as valid, and would count as two. Two buckets of eight places
are its own (the power of two choices: full together only when nearly all of the table is); where both are full it is
not counted, and so not limited either. A place whose count is 0 may be anybody's next.

Counted is whoever has proven to have the key of a certificate that is good, also where nothing is limited: it costs a
look into memory, and a limit that a reload brings knows at once who is there.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from nlbcore.engine.counters cimport HOLDERS, Block, Holder, block, block_of, blocks_used, fence
from nlbcore.engine.der cimport Cursor, der_signed
from nlbcore.engine.openssl cimport X509_V_OK
from nlbcore.engine.sha256 cimport sha256_of
from nlbcore.engine.slab cimport Identity, Session

cdef extern from *:
    """
    #define nlb_store(where, value) __atomic_store_n(where, value, __ATOMIC_RELEASE)
    #define nlb_load(where) __atomic_load_n(where, __ATOMIC_ACQUIRE)
    """
    void store_key "nlb_store"(uint64_t *where, uint64_t value) noexcept nogil
    void store_count "nlb_store"(uint32_t *where, uint32_t value) noexcept nogil
    uint64_t load_key "nlb_load"(const uint64_t *where) noexcept nogil
    uint32_t load_count "nlb_load"(const uint32_t *where) noexcept nogil

cdef enum:
    PLACES = 8              # in a bucket: two cache lines
    BUCKETS = HOLDERS // PLACES


cdef uint64_t contents(Identity *identity) noexcept nogil:
    """Worked out once, and only for who is let in: 2 to 5 us."""
    cdef unsigned char digest[32]
    cdef Cursor signed_part
    if identity.contents == 0:
        der_signed(identity.der, identity.size, &signed_part)
        sha256_of(signed_part.at, <uint32_t>(signed_part.end - signed_part.at), digest)
        memcpy(&identity.contents, digest, sizeof(identity.contents))
    return identity.contents


cdef uint64_t key_of(uint16_t row, Identity *identity) noexcept nogil:
    """Never 0, which is nobody's."""
    cdef uint64_t key = contents(identity) ^ (<uint64_t>row + 1) * 0x9E3779B97F4A7C15U
    return key if key else 1


cdef Holder *bucket(const Block *of, uint64_t key, int choice) noexcept nogil:
    cdef uint64_t number = key >> 32 if choice else key & 0xFFFFFFFFU
    return <Holder *>&of.holders[number % BUCKETS * PLACES]


cdef Holder *find(const Block *of, uint64_t key) noexcept nogil:
    cdef Holder *places
    cdef int choice, i
    for choice in range(2):
        places = bucket(of, key, choice)
        for i in range(PLACES):
            if load_key(&places[i].key) == key:
                return &places[i]
    return NULL


cdef uint32_t count_in(const Block *of, uint64_t key) noexcept nogil:
    """How many connections a worker has; the place may become another's while it is looked at."""
    cdef const Holder *place = find(of, key)
    cdef uint32_t count
    if place == NULL:
        return 0
    count = load_count(&place.count)
    return count if load_key(&place.key) == key else 0


cdef Holder *room(uint64_t key) noexcept nogil:
    """A place that nobody uses, in the emptier one of its two buckets."""
    cdef Holder *places
    cdef Holder *empty
    cdef Holder *best = NULL
    cdef int choice, i, free, most = 0
    for choice in range(2):
        places = bucket(block, key, choice)
        free = 0
        empty = NULL
        for i in range(PLACES):
            if places[i].count == 0:
                free += 1
                empty = &places[i]
        if free > most:
            most = free
            best = empty
    return best


cdef void present_join(Session *s) noexcept nogil:
    """One connection more of its client, if that has a good certificate; present_leave() takes it back."""
    cdef uint64_t key
    cdef Holder *place
    if s.identity == NULL or not s.proven or s.verify_error != X509_V_OK:
        return
    key = key_of(s.listener.row, s.identity)
    place = find(block, key)
    if place == NULL:
        place = room(key)
        if place == NULL:
            return
        store_key(&place.key, key)
        block.held = True
    store_count(&place.count, place.count + 1)
    s.counted = True


cdef void present_leave(Session *s) noexcept nogil:
    cdef Holder *place
    if not s.counted:
        return
    s.counted = False
    place = find(block, key_of(s.listener.row, s.identity))
    if place != NULL and place.count:
        store_count(&place.count, place.count - 1)


cdef uint32_t present_count(uint16_t row, Identity *identity) noexcept nogil:
    """Connections with this certificate at this listener, over all workers."""
    cdef uint64_t key = key_of(row, identity)
    cdef uint32_t total = 0
    cdef uint32_t slot
    fence()
    for slot in range(blocks_used()):
        total += count_in(block_of(slot), key)
    return total


cdef bint present_before(uint16_t row, Identity *identity) noexcept nogil:
    """Whether a worker in an earlier slot has it too: then that one counts it where each certificate counts once."""
    cdef uint64_t key = key_of(row, identity)
    cdef uint32_t slot
    for slot in range(blocks_used()):
        if block_of(slot) == block:
            return False
        if count_in(block_of(slot), key):
            return True
    return False
