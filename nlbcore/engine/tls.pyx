"""The TLS transport: OpenSSL between two memory BIOs, driven by raw pointers without the GIL.

Theory of operation. Ciphertext is received into a scratch buffer of the worker. A long receive is lent to OpenSSL:
`rbio` reads the records where they lie, and what is left of it when others need the buffer is kept in a BIO of its own;
a short one is written to `rbio`. SSL_read takes records out of it. SSL_write puts records into `wbio`; they are sent
from its memory, and what was sent is then read out of it (the only way to consume that these bindings reach). One
recv() can so carry many records and one send() several.

- EOF is never shown to a BIO: it would kill both directions. The engine sees recv() = 0 itself; whether close_notify
  came before it tells a clean end from a truncated one.
- SSL_MODE_AUTO_RETRY is off: a call processes one record, so that records can be budgeted. WANT_READ with bytes left in
  `rbio` is a record that carried no data (a KeyUpdate, an empty record, a warning alert); the record headers are
  followed as they come in, so that one which came alone is known too. 2,428 KeyUpdates fit into one
  64 KB receive and would be 93-155 ms in one call.
- Every SSL call may leave something to send in `wbio` (a ticket, an alert, the answer to a KeyUpdate): it is backlog.
- Memory BIOs grow and never shrink; an idle connection gets fresh ones (tls_rest): 27 instead of 113 KB.
"""

from libc.stdint cimport uint32_t, uint64_t
from nlbcore.engine.buf cimport SCRATCH, ciphertext
from nlbcore.engine.linux.unistd cimport ENOMEM
from nlbcore.engine.openssl cimport (
    SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_MODE_AUTO_RETRY, SSL_RECEIVED_SHUTDOWN, SSL_SENT_SHUTDOWN, ossl,
)
from nlbcore.engine.timers cimport timers_now
from nlbcore.engine.transport cimport IO_AGAIN, IO_END, IO_ERROR, IO_YIELD, transport_recv, transport_send

cdef enum:
    RECORD = 16384          # bytes of data in the largest record
    RECORDS_A_ROUND = 64
    QUIET_COST = 8          # a record without data costs about 40 us, eight times one with data
    QUIET_A_SECOND = 100    # more of them in a second and the client is no client (HAProxy's limit for KeyUpdate)
    TLS1_3_VERSION = 0x0304
    STRETCHED = 4096        # bytes through a BIO at once that make it worth replacing


cdef void tls_start(Transport *t, SSL *ssl, BIO *rbio, BIO *wbio) noexcept nogil:
    """Give the transport its SSL object, whose owner it becomes; the BIOs belong to the SSL object."""
    t.ssl = ssl
    t.rbio = rbio
    t.wbio = wbio
    ossl.SSL_clear_mode(ssl, SSL_MODE_AUTO_RETRY)


cdef long waiting(BIO *bio) noexcept nogil:
    cdef char *at
    return ossl.BIO_get_mem_data(bio, &at)


cdef void follow(Transport *t, const unsigned char *data, int size) noexcept nogil:
    """Follow the record headers in what was received, and count the records that are whole (RFC 8446, 5.1)."""
    cdef uint32_t step
    while size > 0:
        if t.header_size < 5:
            t.header[t.header_size] = data[0]
            t.header_size += 1
            data += 1
            size -= 1
            if t.header_size < 5:
                continue
            t.body = <uint32_t>t.header[3] << 8 | t.header[4]
        step = t.body if t.body < <uint32_t>size else <uint32_t>size
        t.body -= step
        data += step
        size -= <int>step
        if t.body == 0:
            t.header_size = 0
            t.records += 1


cdef void errors_clear() noexcept nogil:
    """Before a call that SSL_get_error() is asked about: what an earlier one left would be taken for its answer.
    Looking costs a tenth of clearing."""
    if ossl.ERR_peek_error():
        ossl.ERR_clear_error()


cdef bint read_from(Transport *t, BIO *rbio) noexcept nogil:
    """Give OpenSSL another read BIO; the one before is freed. False without memory."""
    if rbio == NULL:
        return False
    ossl.SSL_set_bio(t.ssl, rbio, t.wbio)
    t.rbio = rbio
    return True


cdef bint lend(Transport *t, int n) noexcept nogil:
    """Let OpenSSL read the records where they were received: it saves a copy of each. False without memory."""
    cdef BIO *rbio = ossl.BIO_new_mem_buf(ciphertext, n)
    if not read_from(t, rbio):
        return False
    ossl.BIO_set_mem_eof_return(rbio, -1)
    t.lent = True
    return True


cdef bint settle(Transport *t) noexcept nogil:
    """The receive buffer is wanted again: what OpenSSL has not read of it goes into a BIO of its own. False without
    memory."""
    cdef char *at
    cdef long rest
    cdef BIO *rbio
    if not t.lent:
        return True
    rest = ossl.BIO_get_mem_data(t.rbio, &at)
    rbio = ossl.BIO_new(ossl.BIO_s_mem())
    if rbio != NULL and rest > 0 and ossl.BIO_write(rbio, at, <int>rest) != rest:
        ossl.BIO_free(rbio)
        rbio = NULL
    if not read_from(t, rbio):
        return False
    t.lent = False
    if rest > STRETCHED:
        t.stretched = True
    return True


cdef int feed(Transport *t) noexcept nogil:
    """Give OpenSSL what the socket has: the number of bytes, or the answer of transport_recv()."""
    cdef int n = transport_recv(t, ciphertext, SCRATCH)
    cdef bint taken
    if n > 0:
        t.fed += n
        follow(t, ciphertext, n)
        if n > STRETCHED and t.handshaken and waiting(t.rbio) == 0:
            taken = lend(t, n)
        else:
            if n > STRETCHED:
                t.stretched = True
            taken = settle(t) and ossl.BIO_write(t.rbio, ciphertext, n) == n
        if not taken:
            t.error = ENOMEM
            return IO_ERROR
    return n


cdef int broken(Transport *t) noexcept nogil:
    """The client broke TLS: keep OpenSSL's reason. An alert may wait in `wbio`."""
    t.error = 0
    t.ssl_error = ossl.ERR_peek_error()
    return IO_ERROR


cdef int flood(Transport *t) noexcept nogil:
    """More than a client may send; OpenSSL itself has found nothing wrong."""
    t.error = 0
    t.ssl_error = 0
    return IO_ERROR


cdef int tls_handshake(Transport *t) noexcept nogil:
    """One step of the handshake: 1 when it is over, IO_AGAIN, IO_END when the client left, IO_ERROR when it failed.

    What OpenSSL wants to send (also the alert of a failure) is in the backlog afterwards.
    """
    cdef int got = feed(t)
    if got == IO_ERROR:
        return IO_ERROR
    if t.fed > HANDSHAKE_BYTES:
        return flood(t)
    if got == IO_END and waiting(t.rbio) == 0:
        return IO_END
    t.stretched = True
    errors_clear()
    cdef int n = ossl.SSL_do_handshake(t.ssl)
    if n == 1 or waiting(t.wbio) > 0:
        t.answered = True
    if n == 1:
        t.handshaken = True
        t.records = 0
        return 1
    if ossl.SSL_get_error(t.ssl, n) == SSL_ERROR_WANT_READ:
        return IO_END if t.fin else IO_AGAIN
    return broken(t)


cdef bint tls_only_tickets(const Transport *t) noexcept nogil:
    """Whether, right after the handshake, the backlog is session tickets at most: in TLS 1.3 the client waits for
    nothing else of ours; in earlier versions it does."""
    return t.handshaken and ossl.SSL_version(t.ssl) >= TLS1_3_VERSION


cdef bint too_quiet(Transport *t, int records) noexcept nogil:
    """Count records that carried no data; True when there were too many in this second."""
    cdef uint64_t now = timers_now()
    if records <= 0:
        return False
    if now - t.quiet_since > 1000:
        t.quiet_since = now
        t.quiet = 0
    t.quiet += records
    t.spent += QUIET_COST * records
    return t.quiet > QUIET_A_SECOND


cdef int fail(Transport *t, int got) noexcept nogil:
    """TLS is broken: say so at once, or after the data that was read before."""
    t.broken = True
    return got if got else IO_ERROR


cdef int tls_read(Transport *t, unsigned char *into, int size) noexcept nogil:
    cdef int n = read_records(t, into, size)
    if t.lent and waiting(t.rbio) and not settle(t):
        t.error = ENOMEM
        return fail(t, n if n > 0 else 0)
    return n


cdef int read_records(Transport *t, unsigned char *into, int size) noexcept nogil:
    """Data of the records that have come, at most of one receive."""
    cdef int got = 0
    cdef int n, error
    if t.broken:
        return IO_ERROR
    if t.ended:
        return IO_END
    while size - got >= RECORD or got == 0:
        if t.spent >= RECORDS_A_ROUND:
            return got if got else IO_YIELD
        if waiting(t.rbio) == 0 and ossl.SSL_pending(t.ssl) == 0:
            n = t.records               # everything was taken: what held no data, held none
            t.records = 0
            if too_quiet(t, n):
                flood(t)
                return fail(t, got)
            if got:
                return got
            n = feed(t)
            if n > 0:
                continue
            if n == IO_END:
                t.ended = True
                t.clean = (ossl.SSL_get_shutdown(t.ssl) & SSL_RECEIVED_SHUTDOWN) != 0
            return n
        errors_clear()
        n = ossl.SSL_read(t.ssl, into + got, RECORD if size - got > RECORD else size - got)
        if n > 0:
            got += n
            t.spent += 1
            if ossl.SSL_pending(t.ssl) == 0:
                t.records -= 1
            continue
        error = ossl.SSL_get_error(t.ssl, n)
        if error == SSL_ERROR_ZERO_RETURN:
            t.ended = t.clean = True
            return got if got else IO_END
        if error != SSL_ERROR_WANT_READ:
            broken(t)
            return fail(t, got)
        if waiting(t.rbio):
            t.records -= 1
            if too_quiet(t, 1):
                flood(t)
                return fail(t, got)
    return got


cdef int tls_flush(Transport *t) noexcept nogil:
    cdef char *at
    cdef long size = ossl.BIO_get_mem_data(t.wbio, &at)
    cdef int sent
    while size > 0:
        sent = transport_send(t, <const unsigned char *>at, <int>size)
        if sent < 0:
            return sent
        if ossl.BIO_read(t.wbio, at, sent) != sent:     # a copy onto itself, which costs least
            t.error = ENOMEM
            return IO_ERROR
        size = ossl.BIO_get_mem_data(t.wbio, &at)
    return 0


cdef int tls_write(Transport *t, const unsigned char *data, int size) noexcept nogil:
    cdef int done = 0
    cdef int n
    if size > STRETCHED:
        t.stretched = True
    while done < size:
        errors_clear()
        n = ossl.SSL_write(t.ssl, data + done, RECORD if size - done > RECORD else size - done)
        if n <= 0:
            return broken(t)
        done += n
    if tls_flush(t) == IO_ERROR:
        return IO_ERROR
    return size


cdef int tls_shutdown(Transport *t) noexcept nogil:
    """Send close_notify once. Reading goes on: no FIN yet, some clients take it for the end of both directions."""
    if not t.shut:
        t.shut = True
        t.more = False
        if t.handshaken:
            errors_clear()
            if ossl.SSL_shutdown(t.ssl) < 0:
                return broken(t)
    return tls_flush(t)


cdef int tls_backlog(Transport *t) noexcept nogil:
    return <int>waiting(t.wbio)


cdef bint tls_pending(Transport *t) noexcept nogil:
    return ossl.SSL_pending(t.ssl) > 0 or waiting(t.rbio) > 0


cdef void tls_release(Transport *t) noexcept nogil:
    if t.ssl != NULL:
        ossl.SSL_set_shutdown(t.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)    # else its session would not resume
        ossl.SSL_free(t.ssl)
        t.ssl = NULL
        t.rbio = t.wbio = NULL


cdef bint tls_rest(Transport *t) noexcept nogil:
    """An idle connection gives its grown BIOs back: fresh ones in their place, if nothing waits in them. Whether it
    did."""
    cdef BIO *rbio
    cdef BIO *wbio
    if not t.stretched or t.ops.pending(t) or t.ops.backlog(t):
        return False
    rbio = ossl.BIO_new(ossl.BIO_s_mem())
    wbio = ossl.BIO_new(ossl.BIO_s_mem())
    if rbio == NULL or wbio == NULL:
        ossl.BIO_free(rbio)
        ossl.BIO_free(wbio)
        return False
    ossl.SSL_set_bio(t.ssl, rbio, wbio)
    t.rbio = rbio
    t.wbio = wbio
    t.stretched = False
    return True


tls_ops.read = tls_read
tls_ops.write = tls_write
tls_ops.flush = tls_flush
tls_ops.shutdown = tls_shutdown
tls_ops.backlog = tls_backlog
tls_ops.pending = tls_pending
tls_ops.release = tls_release
