from libc.stdint cimport uint32_t

cdef bint der_is_authority(const unsigned char *der, uint32_t size) noexcept nogil
cdef bint der_has_alternative_name(const unsigned char *der, uint32_t size) noexcept nogil
