from nlbcore.engine.slab cimport Session

cdef int dial(Session *s) noexcept nogil
cdef int dialled(Session *s) noexcept nogil
cdef void dial_failed(Session *s, int word, int error) noexcept nogil
