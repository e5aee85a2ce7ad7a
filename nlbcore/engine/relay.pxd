from libc.stdint cimport uint64_t
from nlbcore.engine.slab cimport Session

cdef enum Pumped:
    PUMP_WAIT               # nothing to do until the kernel says more
    PUMP_AGAIN              # the budget is used up; there is more
    PUMP_DONE               # both directions have ended and everything is delivered
    PUMP_CLIENT_BROKEN
    PUMP_SERVER_BROKEN      # what the server had said is with the client's transport
    PUMP_TRUNCATED          # the client was cut off and on_truncated is "reset"; what it had said is delivered

cdef Pumped pump(Session *s) noexcept nogil
cdef uint64_t relay_moved() noexcept nogil
