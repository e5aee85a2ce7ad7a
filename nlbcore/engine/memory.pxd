cdef void memory_tune() noexcept nogil
