# What this worker writes in the segment, and what it reads there; see counters.pyx and nlbcore/segment.py.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LISTENERS = 256
    GROUPS = 1024
    SERVERS = 8192
    HOLDERS = 131072        # places for client certificates that are in use; see present.pyx
    BUCKETS = 20            # of a histogram; the last one is for what is longer than all bounds
    EXPIRING = 4            # segment.EXPIRING_DAYS
    WORDS = 64              # room for the termination list
    VERSIONS = 5            # none, TLSv1.0 ... TLSv1.3
    RING = 1 << 20          # bytes of a log ring

cdef enum ServerState:      # segment.STATES
    SERVER_INITIAL
    SERVER_AVAILABLE
    SERVER_UNHEALTHY
    SERVER_UNAVAILABLE
    SERVER_DRAINING

cdef enum OrderState:       # segment.ORDERS
    ORDER_READY
    ORDER_DRAIN
    ORDER_MAINT

cdef struct Histogram:
    uint64_t buckets[BUCKETS]
    uint64_t sum_us

cdef struct ListenerCounters:
    uint64_t connections    # counters: monotone, kept over a restart of the worker
    uint64_t received
    uint64_t sent
    uint64_t terminations[WORDS]
    uint64_t verdicts[WORDS]    # of those whom `report` has let in
    uint64_t handshakes[VERSIONS][2]    # [version][resumed]
    Histogram handshake_time
    Histogram connection_time
    uint64_t certificates_left_out      # of PROXY headers, for want of room
    uint64_t suppressed     # refusals that were counted in a line instead of told
    int64_t live            # gauges: zeroed by the supervisor when it reaps the worker
    int64_t expiring[EXPIRING]

cdef struct GroupCounters:
    Histogram connect_time

cdef struct ServerCounters:
    uint64_t connections
    uint64_t connect_failed
    uint64_t connect_timeout
    int64_t live            # gauge

cdef struct Ring:
    uint64_t head           # bytes ever written; only the worker writes it
    uint64_t tail           # bytes ever read; only the log writer writes it
    uint64_t dropped        # records that found no room
    uint32_t asleep         # set by the log writer before it waits on its eventfd
    uint32_t muted          # set by the log writer while there is no access log: records of connections are not made
    unsigned char data[RING]

cdef struct Holder:         # a client certificate at a listener, in a worker; see present.pyx
    uint64_t key
    uint32_t count          # of connections; gauge
    uint32_t unused

cdef struct Block:
    uint64_t heartbeat      # ms on the monotonic clock
    uint64_t connection     # the last connection number given out
    uint64_t stall_us       # the longest round of the loop so far
    uint64_t held           # whether `holders` was ever used
    uint64_t unused[4]
    ListenerCounters listeners[LISTENERS]
    GroupCounters groups[GROUPS]
    ServerCounters servers[SERVERS]
    Holder holders[HOLDERS]
    Ring ring

cdef struct Verdict:        # of the prober on a server; indices into segment.STATES and segment.REASONS
    uint8_t state
    uint8_t reason
    uint8_t waits           # for its first verdict: added by a reload
    uint8_t unused[5]
    uint64_t since_ms

cdef struct Order:          # of the operator for a server; only the supervisor writes them
    uint8_t state           # OrderState
    uint8_t weight_and_one  # 0: that of the configuration
    uint8_t unused[6]
    uint64_t cut_ms         # when its connections are cut, 0 = never

cdef struct Shared:
    uint32_t slots                  # that have ever had a worker
    uint32_t unused
    uint64_t hearts[4]              # of the attendants
    uint64_t cps_due[LISTENERS]     # ns: when the listener's next connection may come (GCRA); by compare-and-swap
    uint64_t listener_cut_ms[LISTENERS]     # when the connections of a listener that is no more are cut, 0 = never
    Verdict verdicts[SERVERS]       # only the prober writes them
    Order orders[SERVERS]

cdef Block *block
cdef Shared *shared

cdef extern from *:
    """
    #define nlb_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    void fence "nlb_fence"() noexcept nogil

cdef uint32_t blocks_used() noexcept nogil
cdef Block *block_of(uint32_t slot) noexcept nogil
cdef int64_t live_connections(uint16_t row) noexcept nogil
cdef void observe(Histogram *histogram, uint64_t us) noexcept nogil
