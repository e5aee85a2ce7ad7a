# What is planned, begun and counted: populations and their connections; see plan.pyx.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from nlbbench.board cimport Control, Place, Tally
from nlbbench.client_ssl cimport SSL_SESSION
from nlbbench.pattern cimport PERIOD
from nlbbench.wire cimport Fault, Peer, Wire

cdef enum:
    RING = 4                # pieces that may be in flight on a connection
    HEADER = 16             # a request to a source or sink, and a sink's answer
    WINDOW = 1 << 20        # bytes of a duplex stream that may be on their way
    MS = 1000000            # ns
    LINGER = 1000           # ms that the other side has for its end after ours
    POPULATIONS = 16

cdef enum Work:             # in the order of spec.Work
    CONNECT
    ECHO
    DOWNLOAD
    UPLOAD
    DUPLEX
    IDLE

cdef enum State:
    FREE                    # no socket
    DIALLING
    SHAKING
    OPEN
    CLOSING                 # we have ended, the other side has not

cdef struct Population

cdef struct Connection:
    Wire wire
    State state
    uint32_t watched        # what epoll has been asked for
    Population *of
    SSL_SESSION *session    # to resume with
    uint64_t base           # place of piece 0 in the pattern
    uint64_t begun, sending, receiving      # pieces
    uint64_t tx, rx         # bytes of the pieces that the cursors are in
    int64_t planned[RING]   # ns, of the pieces in flight
    int64_t started[RING]
    int64_t dialled         # when connect() was called
    int64_t shaken          # when the handshake was over
    int64_t last            # when the last piece was over
    int64_t deadline        # 0: nothing is awaited
    int64_t retry           # not before, after a failure
    int64_t pause
    int wrong               # kind of failure that is certain though the exchange goes on; -1: none
    uint32_t tries          # full handshakes for a session so far
    bint fresh              # the handshake is not counted yet
    bint primed             # what is to be done before the measurement is done
    bint waiting            # in its population's line of free connections

cdef struct Population:
    Work work
    uint64_t size, burst, limit, begun
    uint64_t depth
    uint64_t arrival        # number of the next arrival to begin
    uint64_t seen           # number of the next arrival whose moment we have not looked at
    double period, offset   # ns; period 0: closed model
    bint resumed, beside
    uint32_t count
    uint32_t flying         # exchanges in flight
    Connection **line       # free connections, longest free first
    uint32_t head, free
    Tally *tally

cdef struct Job:            # all of this process
    Control *control
    Place *place
    Peer peer
    Population populations[POPULATIONS]
    int kinds               # populations in use
    Connection *connections
    uint32_t total          # connections
    uint32_t opening        # connections that are being opened, before the schedule
    uint32_t pausing        # failures since the last look at who may try again
    int epfd
    int64_t now             # ns, as of the last look at the clock
    int64_t patience        # ns that an exchange may take
    int64_t grace           # ns after the end
    bint scheduled          # the schedule has begun
    bint prime              # connections that stay open are opened before it

cdef Job job

cdef int64_t clock() noexcept nogil
cdef uint64_t roll() noexcept nogil
cdef void seed(uint64_t number) noexcept nogil
cdef void request(Connection *c, uint64_t piece, unsigned char *into) noexcept nogil
cdef void note(Population *p, Fault *fault, uint64_t right, uint64_t how_many) noexcept nogil
cdef void describe(Connection *c) noexcept nogil
cdef bint may_begin(Population *p, int64_t *planned) noexcept nogil
cdef uint64_t backlog(Population *p) noexcept nogil


cdef inline uint64_t body(Connection *c, uint64_t piece) noexcept nogil:
    return c.of.burst if c.of.work == IDLE and piece == 1 else c.of.size


cdef inline uint64_t spot(Connection *c, uint64_t piece) noexcept nogil:
    return (c.base + piece * c.of.size) % PERIOD


cdef inline uint64_t outgoing(Connection *c, uint64_t piece) noexcept nogil:
    if c.of.work == DOWNLOAD:
        return HEADER
    return body(c, piece) + (HEADER if c.of.work == UPLOAD else 0)


cdef inline uint64_t incoming(Connection *c, uint64_t piece) noexcept nogil:
    return HEADER if c.of.work == UPLOAD else body(c, piece)


cdef inline bint ending() noexcept nogil:
    return job.control.end != 0 and job.now >= job.control.end


cdef inline bint counts(int64_t planned) noexcept nogil:
    cdef Control *moments = job.control
    return moments.begin != 0 and planned >= moments.begin and (moments.end == 0 or planned < moments.end)
