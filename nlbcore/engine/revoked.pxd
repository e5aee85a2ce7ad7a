cimport cython
from libc.stdint cimport int64_t, uint32_t
from nlbcore.engine.der cimport Cursor


# A revocation table in somebody's buffer, checked; see revoked.pyx.
@cython.final
cdef class Table:
    cdef object owner
    cdef const unsigned char *at

cdef int revoked_look(
    const unsigned char *table, const unsigned char *der, uint32_t size, const unsigned char *key, uint32_t key_size,
    int64_t now, bint overdue_accepted, Cursor *about,
) noexcept nogil
