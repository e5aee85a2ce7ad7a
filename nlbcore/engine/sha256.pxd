from libc.stdint cimport uint32_t

cdef void sha256_of(const unsigned char *data, uint32_t size, unsigned char *digest) noexcept nogil
