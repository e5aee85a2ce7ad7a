from libc.stdint cimport uint32_t
from nlbcore.engine.linux.socket cimport sockaddr_storage
from nlbcore.engine.slab cimport Listener
from nlbcore.engine.timers cimport Timer

cdef enum:
    ACCEPTORS = 16384
    ACCEPTOR_TIMER = 1      # Timer.kind
    ACCEPT_NONE = -1        # the queue is empty
    ACCEPT_BACKOFF = -2     # out of descriptors or memory: this acceptor pauses

# A listening socket that this worker accepts from: its slot's own, or one that it shares with other workers.
cdef struct Acceptor:
    int fd                  # the supervisor's and the worker's, not ours to close
    bint used
    bint shared
    Listener *listener
    uint32_t pause          # ms of the current back-off, 0 = none
    Timer timer

cdef int acceptor_add(int fd, Listener *listener, bint among_others) noexcept nogil
cdef void acceptor_resume(Acceptor *acceptor) noexcept nogil
cdef void acceptor_move(Acceptor *acceptor, Listener *listener) noexcept nogil
cdef void acceptor_remove(Acceptor *acceptor) noexcept nogil
cdef Acceptor *acceptor_at(uint32_t index) noexcept nogil
cdef uint32_t acceptor_count() noexcept nogil
cdef int acceptor_accept(Acceptor *acceptor, sockaddr_storage *peer) noexcept nogil
cdef bint within_cps(Listener *listener) noexcept nogil
