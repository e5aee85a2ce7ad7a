from libc.stdint cimport uint64_t

cdef void busypoll_use(bint on) noexcept nogil
cdef int busypoll_hope() noexcept nogil
cdef int busypoll_wait(int timeout, int events, uint64_t moved) noexcept nogil
