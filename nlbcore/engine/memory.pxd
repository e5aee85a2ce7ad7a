cdef void memory_tune() noexcept nogil
cdef void memory_trim() noexcept nogil
