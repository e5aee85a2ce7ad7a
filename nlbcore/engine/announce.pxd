from nlbcore.engine.slab cimport Session

cdef int announce(Session *s) noexcept nogil
