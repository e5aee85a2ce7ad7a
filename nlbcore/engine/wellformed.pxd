from libc.stdint cimport uint8_t, uint32_t

cdef bint names_sound(const unsigned char *der, uint32_t size, uint8_t *wildcard) noexcept nogil
