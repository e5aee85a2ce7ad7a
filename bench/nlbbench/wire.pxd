# One connection of the generator, TLS or plain; see wire.pyx.
from libc.stdint cimport int64_t
from nlbbench.client_ssl cimport SSL_SESSION
from nlbcore.engine.linux.socket cimport sockaddr_storage, socklen_t
from nlbcore.engine.openssl cimport BIO, SSL, SSL_CTX, X509_STORE

cdef enum:
    RECORD = 16384          # bytes of data in the largest record
    ROOM = 131072           # bytes received at once

cdef enum Io:               # answers below zero
    IO_AGAIN = -1           # nothing now
    IO_END = -2             # the other side has ended
    IO_FAULT = -3           # see Fault

cdef struct Fault:
    int kind                # board.Kind
    unsigned long error     # OpenSSL's packed error
    long verify             # X509_V_ERR_*
    int code                # errno

cdef struct Peer:           # whom to dial
    sockaddr_storage address
    socklen_t size
    int family
    SSL_CTX *context        # NULL: plain TCP
    X509_STORE *store       # what the server's certificate is verified with; NULL: any will do
    const char *name        # SNI; NULL: none

cdef struct Wire:
    int fd                  # -1: none
    bint deaf               # the other side takes no more bytes; what it has sent can still be read
    SSL *ssl
    BIO *rbio
    BIO *wbio

cdef unsigned char received[131072]     # ROOM
cdef unsigned char plain[16384]         # RECORD

cdef int wire_dial(Wire *w, const Peer *peer, Fault *fault) noexcept nogil
cdef int wire_dialled(Wire *w, Fault *fault) noexcept nogil
cdef int wire_secure(Wire *w, const Peer *peer, SSL_SESSION *session, bint lean, Fault *fault) noexcept nogil
cdef int wire_handshake(Wire *w, Fault *fault) noexcept nogil
cdef int wire_judge(Wire *w, const Peer *peer, Fault *fault) noexcept nogil
cdef int wire_receive(Wire *w, Fault *fault) noexcept nogil
cdef int wire_read(Wire *w, Fault *fault) noexcept nogil
cdef int wire_write(Wire *w, const unsigned char *data, int size, Fault *fault) noexcept nogil
cdef int wire_flush(Wire *w, Fault *fault) noexcept nogil
cdef int wire_goodbye(Wire *w, Fault *fault) noexcept nogil
cdef void wire_rest(Wire *w) noexcept nogil
cdef void wire_close(Wire *w) noexcept nogil
