"""A connection's life: the state machine. Which connection is served when is in rounds.pyx.

Allowed moves of the state machine are the table MOVES; anything else is a bug, and ends the worker before it can do
harm.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport abort, free
from nlbcore.engine.admission cimport client_word, one_too_many
from nlbcore.engine.buf cimport SCRATCH, ciphertext
from nlbcore.engine cimport callbacks
from nlbcore.engine.counters cimport ListenerCounters, block, live_connections, observe
from nlbcore.engine.dialer cimport dial, dial_failed, dialled
from nlbcore.engine.identities cimport identity_drop
from nlbcore.engine.journal cimport journal_access
from nlbcore.engine.linux.socket cimport MSG_PEEK, recv, sockaddr_storage
from nlbcore.engine.linux.unistd cimport EAGAIN, close, errno
from nlbcore.engine.listener cimport Acceptor, acceptor_accept, within_cps
from nlbcore.engine.loop cimport CLIENT, loop_add
from nlbcore.engine.openssl cimport X509_V_OK, ossl, word_of_error, word_of_verify
from nlbcore.engine.plain cimport plain_ops
from nlbcore.engine.preamble cimport preamble_begin, preamble_due, preamble_free, preamble_read
from nlbcore.engine.present cimport present_leave
from nlbcore.engine.queues cimport dequeue, enqueue
from nlbcore.engine.refusals cimport refusal_told
from nlbcore.engine.relay cimport (
    PUMP_AGAIN, PUMP_CLIENT_BROKEN, PUMP_DONE, PUMP_SERVER_BROKEN, PUMP_TRUNCATED, PUMP_WAIT, Pumped, pump,
)
from nlbcore.engine.rules cimport rules_reason
from nlbcore.engine.slab cimport (
    CLOSED, CONNECT, FIRST_STEPS, FLUSH, FREE, HANDSHAKE, HELLO, LINGER, Listener, NEXT_STEPS, PREAMBLE, READY,
    RELAY, Session, State, session_free, session_new,
)
from nlbcore.engine.tickets cimport tickets_settled
from nlbcore.engine.timers cimport timer_clear, timer_set, timers_clock_us, timers_now
from nlbcore.engine.tls cimport tls_handshake, tls_only_tickets, tls_ops, tls_start
from nlbcore.engine.trust cimport trusted_now
from nlbcore.engine.transport cimport (
    IO_AGAIN, IO_END, IO_ERROR, transport_close, transport_fin, transport_init, transport_queued, transport_recv,
)
from nlbcore.termination cimport (
    BAD_PROXY_HEADER, CLIENT_ALERT, CLIENT_CLOSE, CLIENT_RESET, CONNECTION_LIMIT, CONNECT_TIMEOUT, CPS_LIMIT,
    HANDSHAKE_ERROR, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, NOT_TLS, NO_ALPN, NO_CERTIFICATE, OPEN, OVERLOAD, PROBE,
    PROTOCOL_ERROR, SERVER_RESET, TRUNCATED, UNKNOWN_NAME,
)

cdef enum:
    ACCEPT_BURST = 16       # connections from one socket in a round
    LINGER_MS = 1000        # how long we wait for the client's FIN
    LINGER_BYTES = 262144   # and how much we read meanwhile
    FLUSH_MS = 10000        # how long the last bytes may take
    QUEUED_MS = 20          # how often we look whether the kernel has delivered them
    HANDSHAKE_RECORD = 22   # the first byte of a TLS handshake (RFC 8446, 5.1)

cdef uint32_t MOVES[9]
MOVES[<int>FREE] = 1 << PREAMBLE | 1 << HELLO | 1 << CONNECT | 1 << CLOSED
MOVES[<int>PREAMBLE] = 1 << HELLO | 1 << CONNECT | 1 << CLOSED
MOVES[<int>HELLO] = 1 << HANDSHAKE | 1 << CLOSED
MOVES[<int>HANDSHAKE] = 1 << CONNECT | 1 << FLUSH | 1 << CLOSED
MOVES[<int>CONNECT] = 1 << RELAY | 1 << FLUSH | 1 << CLOSED
MOVES[<int>RELAY] = 1 << FLUSH | 1 << CLOSED
MOVES[<int>FLUSH] = 1 << LINGER | 1 << CLOSED
MOVES[<int>LINGER] = 1 << CLOSED
MOVES[<int>CLOSED] = 0

cdef Session *closed = NULL         # to be freed when the round is over
cdef uint32_t worker_slot = 0
cdef refill_t refill_nursery


cdef void sessions_open(uint32_t slot, refill_t refill) noexcept nogil:
    """Say which worker this is and who makes TLS connections."""
    global worker_slot, refill_nursery
    worker_slot = slot
    refill_nursery = refill


# -- state ------------------------------------------------------------------------------------------------------------

cdef void set_state(Session *s, State state) noexcept nogil:
    """The one place where a state changes; it also keeps the count of handshakes in progress."""
    if not MOVES[<int>s.state] & (1 << <int>state):
        abort()
    if s.state == HANDSHAKE:
        s.listener.handshakes -= 1
    if state == HANDSHAKE:
        s.listener.handshakes += 1
    s.state = state


cdef void close_session(Session *s, bint reset) noexcept nogil:
    """Close both sockets now; the structure is freed when the round is over."""
    global closed
    dequeue(s)
    timer_clear(&s.timer)
    transport_close(&s.server, reset)
    transport_close(&s.client, reset)
    set_state(s, CLOSED)
    s.next = closed
    closed = s


cdef void serve_closed() noexcept nogil:
    """Free the sessions that were closed in this round: no event of its batch can mean them any more."""
    global closed
    cdef Session *s
    while closed != NULL:
        s = closed
        closed = s.next
        identity_drop(s.identity)
        free(s.authority)
        preamble_free(s)
        s.listener.references -= 1
        s.listener.counters.live -= 1
        session_free(s)


cdef void record(Session *s, int word) noexcept nogil:
    """The end is decided: count it and write its record. Nobody who left without a byte is logged, nor is a front
    balancer that has only looked whether somebody is there."""
    cdef ListenerCounters *counters = s.listener.counters
    if s.local and s.received == 0 and s.client.ssl == NULL and (word == CLIENT_CLOSE or word == CLIENT_RESET):
        word = PROBE
    s.termination = <uint8_t>word
    counters.terminations[word] += 1
    if word != PROBE:
        observe(&counters.connection_time, timers_clock_us() - s.accepted)
        if refusal_told(s):
            journal_access(s)
    present_leave(s)
    if s.server_counters != NULL:
        s.server_counters.live -= 1
        s.server_counters = NULL


cdef void end_reset(Session *s, int word) noexcept nogil:
    """End it at once, by RST to both sides."""
    record(s, word)
    close_session(s, True)


cdef void end_flushed(Session *s, int word, bint server_reset, bint client_reset) noexcept nogil:
    """End it when the client has been given what waits for it; then by FIN, or by RST with `client_reset`."""
    transport_close(&s.server, server_reset)
    begin_flush(s, word, client_reset)


cdef void begin_flush(Session *s, int word, bint client_reset) noexcept nogil:
    record(s, word)
    s.resetting = client_reset
    dequeue(s)
    set_state(s, FLUSH)
    s.flush_until = timers_now() + FLUSH_MS
    timer_set(&s.timer, s.flush_until)
    flush(s)


cdef void flush(Session *s) noexcept nogil:
    """Bring the last bytes out. A reset destroys what the peer's kernel has not got yet, so it waits for that."""
    cdef int n = s.client.ops.flush(&s.client)
    if n == IO_AGAIN:
        return
    if n != IO_ERROR and s.gone == 0 and (
            (s.resetting and transport_queued(&s.client)) or (s.server_resetting and transport_queued(&s.server))):
        timer_set(&s.timer, timers_now() + QUEUED_MS)       # nothing tells when it is empty
        return
    transport_close(&s.server, True)
    if n == IO_ERROR or s.resetting:
        close_session(s, True)
    elif s.client.fin or transport_fin(&s.client) == IO_ERROR:
        close_session(s, False)
    else:
        set_state(s, LINGER)
        s.sent = 0
        timer_set(&s.timer, timers_now() + LINGER_MS)
        linger(s)


cdef void linger(Session *s) noexcept nogil:
    """Read until the client's FIN: closing with unread bytes would be an RST, which may destroy what we sent."""
    cdef int n
    while True:
        n = transport_recv(&s.client, ciphertext, SCRATCH)
        if n == IO_AGAIN:
            return
        if n > 0:
            s.sent += n
        if n <= 0 or s.sent > LINGER_BYTES:
            close_session(s, False)
            return


cdef void session_end(Session *s, int word) noexcept nogil:
    """End a live connection for a reason of ours, as orderly as its state allows; one that is ending goes on to."""
    if s.state in (PREAMBLE, HELLO, HANDSHAKE):
        record(s, word)
        close_session(s, False)
    elif s.state in (CONNECT, RELAY):
        s.detail_errno = 0
        say_goodbye(s)
        end_flushed(s, word, False, False)


cdef void say_goodbye(Session *s) noexcept nogil:
    """close_notify behind what waits for a TLS client; a plain one has its FIN when it is flushed."""
    if s.client.ssl != NULL:
        s.client.ops.shutdown(&s.client)


# -- accept -----------------------------------------------------------------------------------------------------------

cdef void session_accept(Acceptor *acceptor) noexcept nogil:
    """Take a burst of connections. One over a limit is closed at once: it must not wait in the queue for nothing."""
    cdef sockaddr_storage peer
    cdef Listener *listener = acceptor.listener
    cdef Session *s
    cdef int fd, _i
    for _i in range(ACCEPT_BURST):
        fd = acceptor_accept(acceptor, &peer)
        if fd < 0:
            return
        s = session_new()
        if s == NULL:
            close(fd)
            listener.counters.connections += 1
            listener.counters.terminations[<int>OVERLOAD] += 1
            return
        block.connection += 1
        s.id = block.connection << 10 | worker_slot
        s.peer = peer
        s.listener = listener
        s.accepted = timers_clock_us()
        s.timer.owner = s
        listener.references += 1
        listener.counters.connections += 1
        listener.counters.live += 1
        transport_init(&s.client, fd, &plain_ops)
        if listener.max_connections and live_connections(listener.row) > <int64_t>listener.max_connections:
            s.detail = b"max_connections"
            end_reset(s, CONNECTION_LIMIT)
        elif not within_cps(listener):
            end_reset(s, CPS_LIMIT)
        elif loop_add(fd, CLIENT, s.slot, s.generation, True) != 0:
            s.detail_errno = errno
            end_reset(s, OVERLOAD)
        elif listener.fronts and preamble_due(s):
            begin_preamble(s)
        elif listener.tls:
            set_state(s, HELLO)
            timer_set(&s.timer, timers_now() + listener.handshake_timeout)
        else:
            begin_connect(s)


# -- the header of a front balancer -----------------------------------------------------------------------------------

cdef void begin_preamble(Session *s) noexcept nogil:
    if preamble_begin(s) != 0:
        s.detail_errno = errno
        end_reset(s, OVERLOAD)
        return
    set_state(s, PREAMBLE)
    timer_set(&s.timer, timers_now() + s.listener.handshake_timeout)


cdef void preamble(Session *s) noexcept nogil:
    """Some bytes of it have come. When it is whole the connection goes on as any other, within the same deadline."""
    cdef int n = preamble_read(s)
    if n == IO_AGAIN:
        return
    if n == IO_END:
        record(s, PROBE)
        close_session(s, False)
    elif n == IO_ERROR:
        end_reset(s, BAD_PROXY_HEADER)
    elif s.listener.tls:
        set_state(s, HELLO)
        greet(s)
    else:
        begin_connect(s)


# -- handshake --------------------------------------------------------------------------------------------------------

cdef void greet(Session *s) noexcept nogil:
    """The first byte: only now, and only for TLS, is a TLS object made. Silence costs none, nor does plain HTTP."""
    cdef unsigned char byte
    cdef Listener *listener
    cdef ssize_t n = recv(s.client.fd, &byte, 1, MSG_PEEK)
    if n < 0 and errno == EAGAIN:
        s.client.readable = False
        return
    if n <= 0:
        record(s, PROBE)
        close_session(s, False)
        return
    s.greeted = timers_clock_us()
    if s.listener.successor != NULL and s.listener.successor.tls:
        s.listener.references -= 1      # a reload came first: nothing has happened yet, so it is of the new generation
        s.listener = s.listener.successor
        s.listener.references += 1
    listener = s.listener
    if byte != HANDSHAKE_RECORD:
        s.detail = b"the first byte is not that of a TLS handshake"
        end_reset(s, NOT_TLS)
        return
    if listener.max_handshakes and listener.handshakes >= listener.max_handshakes:
        s.detail = b"max_handshakes"
        end_reset(s, OVERLOAD)
        return
    if listener.ready == 0 and refill_nursery(listener) != 0:
        s.detail = b"no TLS connection could be made"
        end_reset(s, OVERLOAD)
        return
    listener.ready -= 1
    s.client.ops = &tls_ops
    tls_start(&s.client, listener.nursery[listener.ready], listener.nursery_rbio[listener.ready],
              listener.nursery_wbio[listener.ready])
    set_state(s, HANDSHAKE)
    enqueue(s, FIRST_STEPS)


cdef void session_step(Session *s) noexcept nogil:
    """The turn of one that shakes hands: one step."""
    cdef int n
    if s.client.rdhup and s.client.fed == 0:    # its FIN is here before our first answer: it cannot finish
        s.detail = b"the client left during the handshake"
        end_reset(s, HANDSHAKE_ERROR)
        return
    callbacks.current = s
    n = tls_handshake(&s.client)
    callbacks.current = NULL
    dequeue(s)      # something may have happened to it meanwhile: it is looked at below
    if n == 1:
        authenticate(s)
    elif n == IO_AGAIN:
        if s.client.ops.flush(&s.client) == IO_ERROR:
            s.detail_errno = s.client.error
            end_reset(s, HANDSHAKE_ERROR)
        elif s.client.readable:
            enqueue(s, NEXT_STEPS)
    elif n == IO_END:
        s.detail = b"the client left during the handshake"
        end_reset(s, HANDSHAKE_ERROR)
    elif s.client.error:
        s.detail_errno = s.client.error
        end_reset(s, HANDSHAKE_ERROR)
    else:
        refuse(s, handshake_word(s))


cdef int handshake_word(Session *s) noexcept nogil:
    """Why the handshake failed: what our callbacks saw first, else OpenSSL's reason."""
    if s.name_refused:
        return UNKNOWN_NAME
    if s.alpn_refused:
        return NO_ALPN
    if s.verify_error != X509_V_OK and not s.listener.report:
        return verify_word(s)
    if s.client.ssl_error == 0:
        s.detail = b"more bytes than a handshake may have"
        return HANDSHAKE_ERROR
    s.detail = ossl.ERR_reason_error_string(s.client.ssl_error)
    return word_of_error(s.client.ssl_error)


cdef int verify_word(Session *s) noexcept nogil:
    s.detail = rules_reason(s.verify_error, s.identity)
    return word_of_verify(s.verify_error)


cdef void refuse(Session *s, int word) noexcept nogil:
    """The client learns the TLS alert and no more; it is flushed, and we linger so that it arrives."""
    end_flushed(s, word, False, False)


cdef void authenticate(Session *s) noexcept nogil:
    """The handshake is over. Before one byte reaches a server: is this client one of ours?

    Asked after full and resumed handshakes alike, whatever OpenSSL has decided (architecture: the client-certificate
    bypass). In TLS 1.3 the client already believes it is connected.
    """
    cdef Listener *listener = s.listener
    cdef int version, word
    cdef bint resumed
    s.handshaken = timers_clock_us()
    if listener.verify:
        word = client_word(s)
        if listener.report and word != OVERLOAD:
            s.reported = True
            s.verdict = <uint8_t>word
            listener.counters.verdicts[word] += 1
        elif word != OPEN:
            if s.verify_error != X509_V_OK:
                verify_word(s)
            s.client.ops.shutdown(&s.client)
            refuse(s, word)
            return
    if listener.retired and overtaken(s):
        return
    observe(&listener.counters.handshake_time, s.handshaken - s.accepted)
    version = ossl.SSL_version(s.client.ssl) - 0x0300
    resumed = ossl.SSL_session_reused(s.client.ssl) == 1
    listener.counters.handshakes[version if 1 <= version <= 4 else 0][resumed] += 1
    tickets_settled(listener.row, &s.peer, resumed)
    if one_too_many(s):
        s.detail = b"max_connections_per_certificate"
        s.client.ops.shutdown(&s.client)
        refuse(s, CONNECTION_LIMIT)
        return
    begin_connect(s)


cdef bint overtaken(Session *s) noexcept nogil:
    """A reload came while it shook hands: whether the generation in force refuses it."""
    cdef int error = trusted_now(s)
    if error == X509_V_OK:
        return False
    s.client.ops.shutdown(&s.client)
    if error < 0:
        refuse(s, NO_CERTIFICATE)
    else:
        s.verify_error = error
        s.verify_depth = 0
        refuse(s, verify_word(s))
    return True


# -- connect ----------------------------------------------------------------------------------------------------------

cdef void begin_connect(Session *s) noexcept nogil:
    set_state(s, CONNECT)
    s.client.more = tls_only_tickets(&s.client)     # they can go with the first answer
    if s.client.ops.flush(&s.client) == IO_ERROR:
        s.detail_errno = s.client.error
        end_reset(s, CLIENT_RESET)
    elif dial(s) != 0:
        no_server(s)


cdef void no_server(Session *s) noexcept nogil:
    say_goodbye(s)
    end_flushed(s, s.termination, False, False)


cdef void connect(Session *s) noexcept nogil:
    cdef int n = dialled(s)
    if n < 0:
        no_server(s)
    elif n == 1:
        set_state(s, RELAY)
        s.active = timers_now()
        s.client.readable = True        # bytes behind the handshake may be inside, or in the socket
        timer_set(&s.timer, deadline(s))
        relay(s)


# -- relay ------------------------------------------------------------------------------------------------------------

cdef uint64_t deadline(Session *s) noexcept nogil:
    """When a relaying session ends if nothing happens."""
    cdef uint64_t at = s.active + s.listener.idle_timeout
    if s.half_closed:
        at = min(at, s.half_closed + s.listener.half_close_timeout)
    if s.gone:
        at = min(at, s.gone + FLUSH_MS)
    return at


cdef void overdue(Session *s) noexcept nogil:
    """A relaying session's deadline is over: a broken client, a half-closed one, or silence."""
    cdef uint64_t now = timers_now()
    cdef int queued
    if now < deadline(s):
        timer_set(&s.timer, deadline(s))
    elif s.gone and now >= s.gone + FLUSH_MS:
        s.detail = b"while the server did not read"
        end_reset(s, CLIENT_RESET)
    elif s.half_closed and now >= s.half_closed + s.listener.half_close_timeout:
        s.detail = b"half_close_timeout"
        session_end(s, IDLE_TIMEOUT)
    else:
        # Bytes may still flow out of the kernel to a slow reader; it is idle when they have stopped to.
        queued = transport_queued(&s.client) + transport_queued(&s.server)
        if queued and (s.queued == 0 or queued < s.queued):
            s.queued = queued
            s.active = now
            timer_set(&s.timer, deadline(s))
        else:
            session_end(s, IDLE_TIMEOUT)


cdef void relay(Session *s) noexcept nogil:
    cdef uint64_t before = s.active
    cdef Pumped result
    s.client.spent = 0
    result = pump(s)
    if s.active != before:
        s.queued = 0
    if result == PUMP_WAIT:
        timer_set(&s.timer, deadline(s))
    elif result == PUMP_AGAIN:
        timer_set(&s.timer, deadline(s))
        enqueue(s, READY)
    elif result == PUMP_DONE:
        end_flushed(s, s.ending if s.ending else CLIENT_RESET, False, s.down_cut != 0)
    elif result == PUMP_TRUNCATED:
        s.server_resetting = True
        begin_flush(s, TRUNCATED, False)
    elif result == PUMP_SERVER_BROKEN:
        s.detail_errno = s.server.error
        end_flushed(s, SERVER_RESET, True, True)
    elif result == PUMP_CLIENT_BROKEN and s.client.error:
        s.detail_errno = s.client.error
        end_reset(s, CLIENT_RESET)
    elif s.client.ssl_error:
        s.detail = ossl.ERR_reason_error_string(s.client.ssl_error)
        end_flushed(s, protocol_word(s), True, False)
    else:
        s.detail = b"too many TLS records without data in a second"
        end_flushed(s, PROTOCOL_ERROR, True, False)


cdef int protocol_word(Session *s) noexcept nogil:
    """A fatal alert is the client's own word; anything else is TLS broken by it."""
    return CLIENT_ALERT if word_of_error(s.client.ssl_error) == CLIENT_ALERT else PROTOCOL_ERROR


# -- turns ------------------------------------------------------------------------------------------------------------

cdef void session_open(Session *s) noexcept nogil:
    """The turn of one whose first bytes have come."""
    if s.state == PREAMBLE:
        preamble(s)
    elif s.state == HELLO:
        greet(s)


cdef void session_move(Session *s) noexcept nogil:
    """The turn of one whose bytes may move."""
    if s.state == RELAY:
        relay(s)
    elif s.state == CONNECT:
        connect(s)
    elif s.state == FLUSH:
        flush(s)
    elif s.state == LINGER:
        linger(s)


cdef void session_timeout(Session *s) noexcept nogil:
    """A session's deadline is over: what that means depends on its state."""
    if s.state in (PREAMBLE, HELLO, HANDSHAKE):
        if s.state == PREAMBLE:
            s.detail = b"no whole PROXY header"
        session_end(s, HANDSHAKE_TIMEOUT)
    elif s.state == CONNECT:
        dial_failed(s, CONNECT_TIMEOUT, 0)
        if dial(s) != 0:
            no_server(s)
    elif s.state == RELAY:
        overdue(s)
    elif s.state == FLUSH and timers_now() < s.flush_until:
        flush(s)
    else:
        close_session(s, s.state == FLUSH)


def moves():
    """The state machine as a table: for each state the states it may move to; the manual's diagram comes from it."""
    names = {FREE: "free", HELLO: "hello", HANDSHAKE: "handshake", CONNECT: "connect", RELAY: "relay", FLUSH: "flush",
             LINGER: "linger", PREAMBLE: "preamble", CLOSED: "closed"}
    return {name: tuple(names[to] for to in names if MOVES[<int>state] & (1 << <int>to))
            for state, name in names.items()}
