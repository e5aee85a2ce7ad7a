# The interface upwards, as the engine sees it: it asks, whoever is above answers; see hooks.py.
from libc.stdint cimport uint16_t
from nlbcore.engine.linux.socket cimport sockaddr_storage, socklen_t

cdef enum:
    TRIES = 8               # servers that one connection tries at most

cdef struct Route:
    uint16_t row            # of the server, in the segment
    sockaddr_storage address
    socklen_t size

# Choose a server of `group` that is not among the `tried` rows; 0, or -1 when there is none.
ctypedef int (*route_t)(void *group, const uint16_t *tried, int count, Route *route) noexcept nogil
