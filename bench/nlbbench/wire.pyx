"""One connection of the generator: dialling, TLS between two memory BIOs, closing in order; and what went wrong, as a
Fault.

A memory BIO lets one recv() carry many records and one send() several, as in the engine. Sockets are watched level-
triggered: after a short answer no second recv() is needed to learn that there is no more.

A send() that fails is no failure yet: the other side may have said why before it closed (an alert), and that can
still be read. Such a connection is deaf, and ends with what is read from it.
"""

from libc.string cimport memcmp, memcpy
from nlbbench.board cimport ALERT, CERTIFICATE, HANDSHAKE, REFUSED, RESET, TLS
from nlbbench.client_ssl cimport SSL_MODE_RELEASE_BUFFERS, SSL_SESSION, cssl
from nlbcore.engine.linux.socket cimport (
    AF_UNIX, IPPROTO_TCP, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SO_ERROR,
    TCP_NODELAY, connect, getsockopt, recv, send, setsockopt, shutdown, sockaddr, socket, socklen_t,
)
from nlbcore.engine.linux.unistd cimport EAGAIN, EINPROGRESS, EINTR, ENOMEM, close, errno
from nlbcore.engine.openssl cimport (
    SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_RECEIVED_SHUTDOWN, SSL_SENT_SHUTDOWN, STACK_OF_X509,
    X509_V_ERR_UNSPECIFIED, X509_V_OK, X509, X509_STORE, X509_STORE_CTX, ossl, reason_of, sha256,
)

cdef enum:
    SSL_R_ALERT = 1000                      # a received alert N is reason 1000 + N (sslerr.h)
    DIGEST = 32
    KNOWN = 16


cdef unsigned char good[KNOWN][DIGEST]      # server certificates that were verified, the oldest replaced
cdef int known = 0


cdef int fault_of(Fault *fault, int kind, int code) noexcept nogil:
    fault.kind = kind
    fault.error = 0
    fault.verify = 0
    fault.code = code
    return IO_FAULT


cdef int broken(Wire *w, Fault *fault, int kind) noexcept nogil:
    """OpenSSL gave up: `kind`, unless its first reason is an alert."""
    cdef int reason
    fault_of(fault, kind, 0)
    fault.error = ossl.ERR_peek_error()
    reason = reason_of(fault.error)
    if reason > SSL_R_ALERT:
        fault.kind = ALERT
    return IO_FAULT


cdef int wire_dial(Wire *w, const Peer *peer, Fault *fault) noexcept nogil:
    """1: connected, 0: on the way, or IO_FAULT."""
    cdef int one = 1
    w.deaf = False
    w.fd = socket(peer.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if w.fd < 0:
        return fault_of(fault, REFUSED, errno)
    if peer.family != AF_UNIX:
        setsockopt(w.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    if connect(w.fd, <const sockaddr *>&peer.address, peer.size) == 0:
        return 1
    if errno in (EINPROGRESS, EINTR):
        return 0
    return fault_of(fault, REFUSED, errno)      # EAGAIN too: a UNIX socket whose queue is full


cdef int wire_dialled(Wire *w, Fault *fault) noexcept nogil:
    """The socket can be written to: 1 when it is connected, or IO_FAULT."""
    cdef int code = 0
    cdef socklen_t size = sizeof(code)
    getsockopt(w.fd, SOL_SOCKET, SO_ERROR, &code, &size)
    return 1 if code == 0 else fault_of(fault, REFUSED, code)


cdef int wire_secure(Wire *w, const Peer *peer, SSL_SESSION *session, bint lean, Fault *fault) noexcept nogil:
    """Make the TLS object; 0 or IO_FAULT. `lean`: it keeps no buffers while nothing happens."""
    w.ssl = cssl.SSL_new(peer.context)
    w.rbio = ossl.BIO_new(ossl.BIO_s_mem())
    w.wbio = ossl.BIO_new(ossl.BIO_s_mem())
    if w.ssl == NULL or w.rbio == NULL or w.wbio == NULL:
        ossl.BIO_free(w.rbio)
        ossl.BIO_free(w.wbio)
        return fault_of(fault, HANDSHAKE, ENOMEM)
    ossl.SSL_set_bio(w.ssl, w.rbio, w.wbio)
    cssl.SSL_set_connect_state(w.ssl)
    if peer.name != NULL:
        cssl.SSL_set_tlsext_host_name(w.ssl, peer.name)
    if lean:
        cssl.SSL_set_mode(w.ssl, SSL_MODE_RELEASE_BUFFERS)
    if session != NULL:
        cssl.SSL_set_session(w.ssl, session)
    return 0


cdef int wire_handshake(Wire *w, Fault *fault) noexcept nogil:
    """A step: 1 when the handshake is over for us, IO_AGAIN or IO_FAULT. What is to be sent is in `wbio`."""
    cdef int n
    ossl.ERR_clear_error()
    n = ossl.SSL_do_handshake(w.ssl)
    if n == 1:
        return 1
    if ossl.SSL_get_error(w.ssl, n) == SSL_ERROR_WANT_READ:
        return IO_AGAIN
    return broken(w, fault, HANDSHAKE)


cdef int wire_judge(Wire *w, const Peer *peer, Fault *fault) noexcept nogil:
    """Behind the handshake: is the server's certificate good, for its chain and its name? 0 or IO_FAULT.

    One that has been found good is known by its SHA-256 from then on, instead of the 75 us of another signature check:
    the handshake has shown that the server holds its key, and a run is too short for it to expire.
    """
    global known
    cdef unsigned char digest[DIGEST]
    cdef unsigned int size = DIGEST
    cdef int i
    cdef X509 *leaf
    if peer.store == NULL:
        return 0
    leaf = ossl.SSL_get_peer_certificate(w.ssl)
    if leaf == NULL or ossl.X509_digest(leaf, sha256, digest, &size) != 1:
        ossl.X509_free(leaf)
        return fault_of(fault, HANDSHAKE, 0)
    for i in range(KNOWN if known > KNOWN else known):
        if memcmp(good[i], digest, DIGEST) == 0:
            ossl.X509_free(leaf)
            return 0
    fault_of(fault, CERTIFICATE, 0)
    fault.verify = verified(leaf, ossl.SSL_get_peer_cert_chain(w.ssl), peer.store)
    ossl.X509_free(leaf)
    if fault.verify != X509_V_OK:
        return IO_FAULT
    memcpy(good[known % KNOWN], digest, DIGEST)
    known += 1
    return 0


cdef long verified(X509 *leaf, STACK_OF_X509 *chain, X509_STORE *store) noexcept nogil:
    """The result of a verification (X509_V_*)."""
    cdef X509_STORE_CTX *work = ossl.X509_STORE_CTX_new()
    cdef long result = X509_V_ERR_UNSPECIFIED
    if work != NULL and ossl.X509_STORE_CTX_init(work, store, leaf, chain) == 1:
        if ossl.X509_verify_cert(work) == 1:
            result = X509_V_OK
        else:
            result = ossl.X509_STORE_CTX_get_error(work)
    ossl.X509_STORE_CTX_free(work)
    ossl.ERR_clear_error()
    return result


cdef int wire_receive(Wire *w, Fault *fault) noexcept nogil:
    """Take what has come, for wire_read() or, without TLS, in `received`: its size, IO_AGAIN, IO_END or IO_FAULT."""
    cdef int n = <int>recv(w.fd, received, ROOM, 0)
    if n > 0:
        if w.ssl != NULL and ossl.BIO_write(w.rbio, received, n) != n:
            return fault_of(fault, TLS, ENOMEM)
        return n
    if n == 0:
        return IO_END
    if errno in (EAGAIN, EINTR):
        return IO_AGAIN
    return fault_of(fault, RESET, errno)


cdef int wire_read(Wire *w, Fault *fault) noexcept nogil:
    """The next decrypted bytes, in `plain`: their number, IO_AGAIN, IO_END (close_notify) or IO_FAULT."""
    cdef int n, error
    ossl.ERR_clear_error()
    n = ossl.SSL_read(w.ssl, plain, RECORD)
    if n > 0:
        return n
    error = ossl.SSL_get_error(w.ssl, n)
    if error == SSL_ERROR_WANT_READ:
        return IO_AGAIN
    if error == SSL_ERROR_ZERO_RETURN:
        return IO_END
    return broken(w, fault, TLS)


cdef int wire_write(Wire *w, const unsigned char *data, int size, Fault *fault) noexcept nogil:
    """Give bytes to TLS (all of them, for wire_flush to send) or to the socket: how many were taken, IO_AGAIN,
    IO_FAULT."""
    cdef int n
    if w.ssl == NULL:
        if w.deaf:
            return IO_AGAIN
        n = <int>send(w.fd, data, size, MSG_NOSIGNAL)
        if n < 0:
            w.deaf = errno not in (EAGAIN, EINTR)
            return IO_AGAIN
        return n
    ossl.ERR_clear_error()
    n = ossl.SSL_write(w.ssl, data, RECORD if size > RECORD else size)
    return n if n > 0 else broken(w, fault, TLS)


cdef int wire_flush(Wire *w, Fault *fault) noexcept nogil:
    """Send what TLS has made: 1 when all of it has gone, IO_AGAIN or IO_FAULT."""
    cdef char *at
    cdef long size
    cdef int sent, piece
    if w.ssl == NULL:
        return IO_AGAIN if w.deaf else 1
    size = ossl.BIO_get_mem_data(w.wbio, &at)
    while size > 0:
        if w.deaf:
            return IO_AGAIN
        sent = <int>send(w.fd, at, size, MSG_NOSIGNAL)
        if sent < 0:
            w.deaf = errno not in (EAGAIN, EINTR)
            return IO_AGAIN
        while sent > 0:     # the only way to take bytes out of a memory BIO that these bindings reach
            piece = ossl.BIO_read(w.wbio, received, sent if sent < ROOM else ROOM)
            if piece <= 0:
                return fault_of(fault, TLS, ENOMEM)
            sent -= piece
        size = ossl.BIO_get_mem_data(w.wbio, &at)
    return 1


cdef int wire_goodbye(Wire *w, Fault *fault) noexcept nogil:
    """close_notify and the end of our side: 1 when both have gone, IO_AGAIN (call again) or IO_FAULT."""
    cdef int n
    if w.ssl != NULL:
        if not ossl.SSL_get_shutdown(w.ssl) & SSL_SENT_SHUTDOWN:
            ossl.ERR_clear_error()
            if ossl.SSL_shutdown(w.ssl) < 0:
                return broken(w, fault, TLS)
        n = wire_flush(w, fault)
        if n != 1:
            return n
    shutdown(w.fd, SHUT_WR)
    return 1


cdef void wire_rest(Wire *w) noexcept nogil:
    """Nothing will happen for long: memory BIOs never shrink, so fresh ones take their place, if nothing waits in
    them."""
    cdef char *at
    cdef BIO *rbio
    cdef BIO *wbio
    if w.ssl == NULL or ossl.BIO_get_mem_data(w.wbio, &at) or ossl.BIO_get_mem_data(w.rbio, &at):
        return
    rbio = ossl.BIO_new(ossl.BIO_s_mem())
    wbio = ossl.BIO_new(ossl.BIO_s_mem())
    if rbio == NULL or wbio == NULL:
        ossl.BIO_free(rbio)
        ossl.BIO_free(wbio)
        return
    ossl.SSL_set_bio(w.ssl, rbio, wbio)
    w.rbio = rbio
    w.wbio = wbio


cdef void wire_close(Wire *w) noexcept nogil:
    """Free everything. A session of the connection stays good: OpenSSL would spoil it had we not been shut."""
    if w.ssl != NULL:
        ossl.SSL_set_shutdown(w.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        ossl.SSL_free(w.ssl)
        w.ssl = NULL
        w.rbio = w.wbio = NULL
    if w.fd >= 0:
        close(w.fd)
        w.fd = -1
