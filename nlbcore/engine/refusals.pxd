from nlbcore.engine.slab cimport Session

cdef bint refusal_told(const Session *s) noexcept nogil
cdef void refusals_sum(bint all_of_them) noexcept nogil
