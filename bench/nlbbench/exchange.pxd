# The exchanges of a connection; see exchange.pyx.
from libc.stdint cimport int64_t
from nlbbench.plan cimport Connection
from nlbbench.wire cimport Fault

cdef void begin(Connection *c, int64_t planned) noexcept nogil
cdef void pump(Connection *c) noexcept nogil
cdef void fail(Connection *c, Fault *fault) noexcept nogil
cdef void queue(Connection *c) noexcept nogil
cdef void settle(Connection *c) noexcept nogil
cdef void goodbye(Connection *c) noexcept nogil
cdef void drop(Connection *c) noexcept nogil
cdef void readable(Connection *c) noexcept nogil
cdef void secure(Connection *c) noexcept nogil
cdef void shake(Connection *c) noexcept nogil
