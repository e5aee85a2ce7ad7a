from libc.stdint cimport uint32_t
from nlbcore.engine.listener cimport Acceptor
from nlbcore.engine.slab cimport Listener, Session

ctypedef int (*refill_t)(Listener *listener) noexcept nogil

cdef void sessions_open(uint32_t slot, refill_t refill) noexcept nogil
cdef void session_accept(Acceptor *acceptor) noexcept nogil
cdef void session_open(Session *s) noexcept nogil
cdef void session_move(Session *s) noexcept nogil
cdef void session_step(Session *s) noexcept nogil
cdef void session_timeout(Session *s) noexcept nogil
cdef void session_end(Session *s, int word) noexcept nogil
cdef void serve_closed() noexcept nogil
