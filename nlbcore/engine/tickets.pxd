from libc.stdint cimport uint16_t
from nlbcore.engine.linux.socket cimport sockaddr_storage

cdef enum:
    UNUSED = 64             # clients of an address that were given tickets and used none, after which most get none
    AGAIN = 16              # of those, every so many-th gets some all the same

cdef bint tickets_wanted(uint16_t row, const sockaddr_storage *peer) noexcept nogil
cdef void tickets_settled(uint16_t row, const sockaddr_storage *peer, bint resumed) noexcept nogil
