from nlbcore.engine.slab cimport Session

cdef int client_word(Session *s) noexcept nogil
cdef bint one_too_many(Session *s) noexcept nogil
