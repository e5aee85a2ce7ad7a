from nlbcore.engine.slab cimport Session

cdef enum:
    FRONT = 18              # bytes of an entry in a listener's list

cdef bint preamble_due(const Session *s) noexcept nogil
cdef int preamble_begin(Session *s) noexcept nogil
cdef int preamble_read(Session *s) noexcept nogil
cdef void preamble_free(Session *s) noexcept nogil
