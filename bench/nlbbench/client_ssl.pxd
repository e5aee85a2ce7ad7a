# What a TLS client needs of OpenSSL beside the engine's table; see client_ssl.pyx.
from nlbcore.engine.openssl cimport SSL, SSL_CTX

cdef extern from *:
    """
    typedef struct ssl_session_st SSL_SESSION;
    """
    ctypedef struct SSL_SESSION:
        pass

cdef enum:
    SSL_MODE_RELEASE_BUFFERS = 0x10

cdef struct ClientSSL:
    SSL *(*SSL_new)(SSL_CTX *) noexcept nogil
    void (*SSL_set_connect_state)(SSL *) noexcept nogil
    void (*SSL_set_tlsext_host_name)(SSL *, const char *) noexcept nogil
    long (*SSL_set_mode)(SSL *, long) noexcept nogil
    int (*SSL_set_session)(SSL *, SSL_SESSION *) noexcept nogil
    SSL_SESSION *(*SSL_get1_session)(SSL *) noexcept nogil
    void (*SSL_SESSION_free)(SSL_SESSION *) noexcept nogil
    const char *(*SSL_get_version)(const SSL *) noexcept nogil

cdef ClientSSL cssl
