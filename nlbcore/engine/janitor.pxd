from libc.stdint cimport uint32_t, uint64_t

cdef void sweep_begin() noexcept nogil
cdef bint sweeping() noexcept nogil
cdef void sweep(uint64_t us) noexcept nogil
cdef void recheck_begin() noexcept nogil
cdef bint recheck_slice(uint64_t us) noexcept nogil
cdef uint32_t recheck_closed() noexcept nogil
