# What the generator's processes and their parent share; see board.pyx.
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from nlbbench.hist cimport COUNTS

cdef enum:
    KINDS = 16              # kinds of failure; Kind below uses 13
    SAMPLES = 3             # described failures of each kind
    ROWS = 8                # different negotiated parameters
    TEXT = 96

cdef enum Kind:             # in the order of spec.Failure
    REFUSED
    ALERT
    CERTIFICATE
    HANDSHAKE
    NOT_RESUMED
    NOT_FULL
    RESET
    TRUNCATED
    CORRUPT
    SURPLUS
    TIMEOUT
    UNFINISHED
    TLS

cdef struct Sample:         # numbers; the parent makes a text of them
    int64_t at              # ns on the monotonic clock
    uint64_t error          # OpenSSL's packed error, 0 = none
    int64_t verify          # X509_V_ERR_*
    int64_t code            # errno
    uint64_t place          # how many bytes of the answer were right

cdef struct Row:            # what was negotiated
    char text[TEXT]
    uint64_t count

cdef struct Tally:          # one population in one process; written by that process alone
    uint64_t planned
    uint64_t done
    uint64_t sent
    uint64_t received
    uint64_t opened
    uint64_t full
    uint64_t resumed
    uint64_t all_done       # warm-up and end included
    uint64_t all_failed
    uint64_t failed[KINDS]
    Sample samples[KINDS][SAMPLES]
    Row rows[ROWS]
    uint64_t latency[COUNTS]
    uint64_t service[COUNTS]
    uint64_t handshake[COUNTS]

cdef struct Place:          # one process
    uint32_t ready          # connections are open, sessions collected
    uint32_t counted        # every population with a count has made it
    uint32_t over           # nothing is in flight any more
    int64_t last            # when the last counted exchange ended
    uint64_t late[COUNTS]   # how late the schedule was looked at

cdef struct Control:        # written by the parent alone; ns on the monotonic clock, 0 = not yet
    int64_t schedule        # the warm-up begins
    int64_t begin           # the measurement
    int64_t end


@cython.final
cdef class Board:
    cdef readonly int processes
    cdef readonly int populations
    cdef object memory
    cdef Control *control
    cdef Place *places
    cdef Tally *tallies
    cdef uint64_t *before   # latencies at the last interval(), for each population
    cdef Tally *tally(self, int process, int population)
    cdef uint64_t *histogram(self, int process, int population, int which)
