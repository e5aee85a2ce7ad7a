"""The slab of sessions: numbered slots in chunks that never move, and a generation for each slot.

An epoll event carries slot and generation instead of a pointer; when the session it meant has been freed, even if the
slot was given to a new one within the same batch, ``session_find`` answers NULL.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc
from libc.string cimport memset

cdef enum:
    CHUNK = 256
    CHUNKS = 4096           # a million sessions; the descriptors end long before
    GENERATIONS = 0xFFFFFF  # an event's tag has 24 bits for it

cdef Session *chunks[CHUNKS]
cdef uint32_t made = 0      # slots that exist
cdef uint32_t live = 0
cdef Session *spare = NULL  # freed sessions, linked by `next`


cdef Session *session_at(uint32_t slot) noexcept nogil:
    return &chunks[slot // CHUNK][slot % CHUNK]


cdef uint32_t session_slots() noexcept nogil:
    """How many slots exist; those in FREE hold nobody."""
    return made


cdef uint32_t session_count() noexcept nogil:
    return live


cdef Session *session_new() noexcept nogil:
    """A zeroed session in state FREE with its slot and generation, or NULL without memory."""
    global made, live, spare
    cdef Session *s = spare
    cdef uint32_t slot, generation
    if s == NULL:
        if made // CHUNK == CHUNKS:
            return NULL
        if made % CHUNK == 0:
            chunks[made // CHUNK] = <Session *>calloc(CHUNK, sizeof(Session))
            if chunks[made // CHUNK] == NULL:
                return NULL
        slot = made
        made += 1
        s = session_at(slot)
        generation = 1
    else:
        spare = s.next
        slot = s.slot
        generation = s.generation
    memset(s, 0, sizeof(Session))
    s.slot = slot
    s.generation = generation
    s.client.fd = s.server.fd = -1
    live += 1
    return s


cdef void session_free(Session *s) noexcept nogil:
    """Back into the slab. Its generation goes on, so what still points to it finds nothing."""
    global live, spare
    s.state = FREE
    s.generation = 1 if s.generation >= GENERATIONS else s.generation + 1
    s.next = spare
    spare = s
    live -= 1


cdef Session *session_find(uint32_t slot, uint32_t generation) noexcept nogil:
    cdef Session *s
    if slot >= made:
        return NULL
    s = session_at(slot)
    return s if s.generation == generation and s.state != FREE else NULL
