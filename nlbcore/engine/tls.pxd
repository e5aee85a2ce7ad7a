from nlbcore.engine.openssl cimport BIO, SSL
from nlbcore.engine.transport cimport Transport, TransportOps

cdef enum:
    HANDSHAKE_BYTES = 262144        # what a client may send before its handshake is over

cdef TransportOps tls_ops

cdef void errors_clear() noexcept nogil
cdef void tls_start(Transport *t, SSL *ssl, BIO *rbio, BIO *wbio) noexcept nogil
cdef int tls_handshake(Transport *t) noexcept nogil
cdef bint tls_only_tickets(const Transport *t) noexcept nogil
cdef bint tls_rest(Transport *t) noexcept nogil
