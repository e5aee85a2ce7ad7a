from libc.stdint cimport uint16_t, uint32_t
from nlbcore.engine.slab cimport Identity, Session

cdef void present_join(Session *s) noexcept nogil
cdef void present_leave(Session *s) noexcept nogil
cdef uint32_t present_count(uint16_t row, Identity *identity) noexcept nogil
cdef bint present_before(uint16_t row, Identity *identity) noexcept nogil
