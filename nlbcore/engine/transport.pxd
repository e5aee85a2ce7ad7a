# What the relay sees of a socket, plain or TLS: the same few operations on both; see transport.pyx.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from nlbcore.engine.buf cimport Buf
from nlbcore.engine.openssl cimport BIO, SSL

cdef enum IO:               # the answers of an operation that are not a number of bytes
    IO_END = 0              # the peer has ended its direction
    IO_AGAIN = -1           # nothing now; epoll will tell
    IO_ERROR = -2           # broken: transport.error says how
    IO_YIELD = -3           # this round's budget is used up; there is more

cdef struct Transport:
    const TransportOps *ops
    int fd
    # edge-triggered memory: epoll reports a change once, these remember it until the kernel says EAGAIN
    uint8_t readable
    uint8_t writable
    uint8_t rdhup           # the peer's FIN is in the queue: a short read is not the end of what there is
    uint8_t urgent          # urgent data has come: recv() stops at its mark, and a short read means nothing
    # the two directions
    uint8_t ended           # the peer's direction is over ...
    uint8_t clean           # ... by FIN (plain) or close_notify (TLS); false: cut off
    uint8_t shut            # our direction is over: FIN (plain) or close_notify (TLS) sent
    uint8_t fin             # recv() has returned 0
    uint8_t cut             # recv() has failed; it says so again whenever it is asked
    uint8_t more            # more will follow at once: what is sent may wait in the kernel for it, 200 ms at most
    int error               # errno of a failure; 0 with IO_ERROR: TLS was broken (ssl_error)
    unsigned long ssl_error
    Buf out                 # plain: bytes that wait for the socket
    # TLS
    SSL *ssl
    BIO *rbio               # ciphertext for OpenSSL
    BIO *wbio               # ciphertext for the socket
    uint8_t lent            # rbio reads the worker's receive buffer and takes no bytes
    uint8_t stretched       # the BIOs have grown; they are replaced when the connection falls idle
    uint8_t answered        # OpenSSL has answered the ClientHello: the version is decided
    uint8_t handshaken
    uint8_t broken          # SSL_read has failed; it is said when the data before it has been read
    uint32_t fed            # bytes of the handshake so far
    uint8_t header[5]       # of the record that is being received ...
    uint8_t header_size     # ... and how much of it has come
    uint32_t body           # bytes of that record still to come
    int32_t records         # received whole and not yet known to hold data
    uint32_t quiet          # records without data in this second
    uint64_t quiet_since    # ms
    uint32_t spent          # of this round's budget of records

cdef struct TransportOps:
    int (*read)(Transport *, unsigned char *, int) noexcept nogil
    int (*write)(Transport *, const unsigned char *, int) noexcept nogil
    int (*flush)(Transport *) noexcept nogil
    int (*shutdown)(Transport *) noexcept nogil
    int (*backlog)(Transport *) noexcept nogil
    bint (*pending)(Transport *) noexcept nogil
    void (*release)(Transport *) noexcept nogil

cdef void transport_init(Transport *t, int fd, const TransportOps *ops) noexcept nogil
cdef int transport_recv(Transport *t, unsigned char *into, int size) noexcept nogil
cdef int transport_send(Transport *t, const unsigned char *data, int size) noexcept nogil
cdef int transport_queued(const Transport *t) noexcept nogil
cdef int transport_fin(Transport *t) noexcept nogil
cdef void transport_close(Transport *t, bint reset) noexcept nogil
