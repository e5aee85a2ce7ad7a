from libc.stdint cimport uint32_t

cdef enum:
    COMMON_NAME = 256       # bytes; 64 letters is what X.520 allows (ub-common-name)

cdef int common_name(const unsigned char *der, uint32_t size, char *into) noexcept nogil
