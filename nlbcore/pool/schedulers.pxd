from libc.stdint cimport int64_t, uint16_t, uint32_t
from nlbcore.engine.linux.socket cimport sockaddr_storage, socklen_t

cdef struct Candidate:
    uint16_t row
    int64_t weight
    int64_t current         # smooth weighted round robin: what it is owed
    sockaddr_storage address
    socklen_t size

cdef struct Ring:
    uint32_t count
    bint equal              # weights do not count, but for 0
    Candidate *candidates

cdef class Group:
    cdef Ring ring
