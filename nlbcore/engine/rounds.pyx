"""Whose turn it is: the lists of a round, the handshake budget, and messages in the middle of a handshake.

Theory of operation. An event only notes what the kernel said and puts the session into a list; in a round each list is
served from its beginning to where its end was, so no connection is served twice before all others were. Four lists:

READY        bytes may move (relay), a connect has been answered, a last byte is to be flushed
NEWCOMERS    the first bytes of a connection have come
NEXT_STEPS   handshakes that were begun and whose client has answered
FIRST_STEPS  handshakes that have not begun

Ready connections are served first. Then handshakes, of which a step costs 0.3-0.4 ms: at most one expensive step a
round while there is other work, and 1 + queue/1024; without other work 1 + queue/128 (HAProxy's rule; it cut its worst
latency from 78 to 6 ms). Begun ones go first. A step that took less than 50 us - a ClientHello in small pieces - does
not count, so that dribbling clients cannot use up the ration of the others.

A step is several messages (RFC 8446, 4), and OpenSSL tells when it is between two of them: its info callback. There,
the messages of established connections are looked for and moved: they wait for a piece of a step - a key exchange, a
signature - and not for the whole. All looks together take half as long as the step itself, and the turn of one
connection more: what then waits is served after it. Meanwhile no handshake is in progress for OpenSSL's callbacks: an
established connection may come to them too (KeyUpdate).
"""

from libc.stdint cimport uint32_t, uint64_t
from nlbcore.engine cimport callbacks
from nlbcore.engine.linux.epoll cimport EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP
from nlbcore.engine.loop cimport CLIENT, SERVER, Event, loop_event, loop_wait
from nlbcore.engine.openssl cimport SSL, SSL_CB_LOOP, ossl
from nlbcore.engine.queues cimport dequeue, enqueue, queue_first, queue_length
from nlbcore.engine.session cimport session_move, session_open, session_step
from nlbcore.engine.slab cimport (
    CLOSED, CONNECT, FIRST_STEPS, HANDSHAKE, HELLO, NEWCOMERS, NEXT_STEPS, PREAMBLE, READY, Session, session_find,
)
from nlbcore.engine.timers cimport timers_clock_us, timers_now
from nlbcore.engine.tls cimport errors_clear
from nlbcore.engine.transport cimport Transport

cdef enum:
    CHEAP_STEP = 50         # us
    CHEAP_STEPS = 64        # of them in a round
    GREETED = 64            # newcomers in a round
    UNDISTURBED = 50        # us of a step before messages are looked for

cdef uint64_t begun = 0         # of the step in progress, us
cdef uint64_t looked = 0        # when its messages were last looked for
cdef uint64_t interrupted = 0   # us; how long that has taken in all


cdef void note_event(Event *event) noexcept nogil:
    """Note what the kernel said and put the session into its list; the batch is served afterwards."""
    cdef Session *s = session_find(event.slot, event.generation)
    cdef Transport *t
    if s == NULL or s.state == CLOSED:
        return
    t = &s.server if event.kind == SERVER else &s.client
    if t.fd < 0:
        return
    if event.flags & (EPOLLERR | EPOLLHUP):
        t.readable = t.writable = True
    if event.flags & EPOLLERR and event.kind == CLIENT and s.gone == 0:
        s.gone = timers_now()
    if event.flags & EPOLLERR and event.kind == SERVER:
        s.server_resetting = False      # it is reset: the kernel counts for ever what it could not deliver
    if event.flags & EPOLLPRI:
        t.urgent = t.readable = True
    if event.flags & EPOLLRDHUP:
        t.rdhup = t.readable = True
    if event.flags & EPOLLIN:
        t.readable = True
    if event.flags & EPOLLOUT:
        t.writable = True
    if s.state in (PREAMBLE, HELLO):
        if t.readable:
            enqueue(s, NEWCOMERS)
    elif s.state == HANDSHAKE:
        if t.readable or t.ops.backlog(t):
            enqueue(s, NEXT_STEPS)
    elif s.state == CONNECT:
        if event.kind == SERVER:        # a client that has left meanwhile is read to its end when it is connected
            enqueue(s, READY)
    else:
        enqueue(s, READY)


cdef void serve_waiting() noexcept nogil:
    """Serve the lists."""
    serve_ready(0)
    serve_newcomers()
    serve_handshakes()


cdef void serve_ready(uint64_t until) noexcept nogil:
    """Serve every session that stands in READY now, once; until then (us), unless it is 0."""
    cdef uint32_t n = queue_length(READY)
    cdef Session *s
    while n and queue_first(READY) != NULL:
        n -= 1
        s = queue_first(READY)
        dequeue(s)
        session_move(s)
        if until and timers_clock_us() >= until:
            return


cdef void serve_newcomers() noexcept nogil:
    cdef Session *s
    cdef int _i
    for _i in range(GREETED):
        s = queue_first(NEWCOMERS)
        if s == NULL:
            return
        dequeue(s)
        session_open(s)


cdef void serve_messages(uint64_t until) noexcept nogil:
    """Serve the established connections to which something has happened, until then (us). What has happened to others
    is noted; the sockets that are accepted from, and the channel, tell it again."""
    cdef Event event
    cdef int i
    for i in range(loop_wait(0)):
        loop_event(i, &event)
        if event.kind in (CLIENT, SERVER):
            note_event(&event)
    serve_ready(until)
    errors_clear()      # one of these connections' errors would be taken for the handshake's


cdef void between(SSL *ssl, int where, int unused) noexcept nogil:
    """OpenSSL is between two messages of a handshake: the one in progress, or something that an established connection
    has begun."""
    global looked, interrupted
    cdef Session *s = callbacks.current
    cdef uint64_t now, step
    if s == NULL or not where & SSL_CB_LOOP:
        return
    now = timers_clock_us()
    step = now - begun - interrupted
    if now - looked < UNDISTURBED or step // 2 <= interrupted:
        return
    callbacks.current = NULL
    serve_messages(now + step // 2 - interrupted)
    callbacks.current = s
    looked = timers_clock_us()
    interrupted += looked - now


cdef void serve_handshakes() noexcept nogil:
    """Handshake steps within the budget of a round; see above."""
    global begun, looked, interrupted
    cdef uint32_t waiting = queue_length(FIRST_STEPS) + queue_length(NEXT_STEPS)
    cdef uint32_t budget = 1 + waiting // (1024 if queue_length(READY) else 128)
    cdef uint32_t steps = waiting if waiting < CHEAP_STEPS + budget else CHEAP_STEPS + budget
    cdef uint64_t end
    cdef Session *s
    begun = timers_clock_us()
    while budget and steps:
        s = queue_first(NEXT_STEPS)
        if s == NULL:
            s = queue_first(FIRST_STEPS)
        if s == NULL:
            return
        dequeue(s)
        looked = begun
        interrupted = 0
        ossl.SSL_set_info_callback(s.client.ssl, between)
        session_step(s)
        end = timers_clock_us()
        if end - begun - interrupted > CHEAP_STEP:
            budget -= 1
        begun = end
        steps -= 1
