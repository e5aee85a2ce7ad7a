from nlbcore.engine.slab cimport Session

cdef int trusted_now(Session *s) noexcept nogil
cdef void trust_epoch() noexcept nogil
