"""The door to the compiled data plane: what a worker's Python sets up, and the loop it then runs without the GIL.

One engine per process; its state is the modules' own. Python runs again only to make TLS connections for a nursery
(64 at a time), and when ``run()`` returns because the supervisor has something to say.
"""

import errno as codes
import os
import time

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from nlbcore.engine.callbacks cimport name_put
from nlbcore.engine.counters cimport LISTENERS, block
from nlbcore.engine.hooks cimport route_t
from nlbcore.engine.journal cimport journal_half_full, journal_wake
from nlbcore.engine.listener cimport (
    ACCEPTOR_TIMER, Acceptor, acceptor_add, acceptor_at, acceptor_count, acceptor_remove, acceptor_resume,
)
from nlbcore.engine.loop cimport (
    ACCEPTOR, CHANNEL, Event, loop_add, loop_close, loop_event, loop_open, loop_remove, loop_wait,
)
from nlbcore.engine.linux.unistd cimport errno
from nlbcore.engine.openssl cimport BIO, SSL, SSL_CTX, ossl
from nlbcore.engine.revoked cimport Table
from nlbcore.engine.session cimport (
    serve_closed, serve_handshakes, serve_ready, session_accept, session_end, session_event, session_timeout,
    sessions_open, sweep, work_waits,
)
from nlbcore.engine.slab cimport (
    CLOSED, FREE, Listener, NURSERY, ServerName, Session, TRUNCATED_CLOSES, TRUNCATED_RESETS, session_at, session_count,
    session_slots,
)
from nlbcore.engine.timers cimport (
    Timer, timers_clock_us, timers_now, timers_pop, timers_reset, timers_update, timers_wait,
)
from nlbcore.termination cimport SHUTDOWN

cdef enum:
    BEAT = 100              # ms between heartbeats, and slices of the janitor
    ROUNDS = 512            # of accepting what is queued, before accepting ends
    PATIENCE = 500          # ms for the log writer while every session is ended


cdef int refill(Listener *listener) noexcept nogil:
    """Fill a listener's nursery: 0, or -1 when not one connection could be made."""
    with gil:
        try:
            for ssl, rbio, wbio in (<object>listener.front).connections(NURSERY):
                listener.nursery[listener.ready] = <SSL *><uintptr_t>ssl
                listener.nursery_rbio[listener.ready] = <BIO *><uintptr_t>rbio
                listener.nursery_wbio[listener.ready] = <BIO *><uintptr_t>wbio
                listener.ready += 1
        except Exception:       # out of memory: the connection that asked is shed, the next one asks again
            pass
        return 0 if listener.ready else -1


cdef void run_timers() noexcept nogil:
    cdef Timer *timer = timers_pop()
    while timer != NULL:
        if timer.kind == ACCEPTOR_TIMER:
            acceptor_resume(<Acceptor *>timer.owner)
        else:
            session_timeout(<Session *>timer.owner)
        timer = timers_pop()


@cython.final
cdef class Engine:
    """A worker's event loop and everything that hangs on it.

    Args:
        slot: number of this worker
        channel: descriptor that becomes readable when the supervisor has something to say; ``run()`` then returns
        eventfd: written to when the log writer sleeps and a record waits
    """

    cdef int channel
    cdef int eventfd
    cdef bint draining
    cdef list owners
    cdef Listener *listeners[LISTENERS]
    cdef int listener_count

    def __init__(self, uint32_t slot, int channel, int eventfd):
        self.channel = channel
        self.eventfd = eventfd
        self.owners = []
        timers_reset()
        if loop_open() != 0:
            raise OSError(errno, os.strerror(errno), "epoll")
        if loop_add(channel, CHANNEL, 0, 0, False) != 0:
            failed = errno
            loop_close()
            raise OSError(failed, os.strerror(failed), "channel")
        sessions_open(slot, refill)

    def add_listener(self, plan):
        """Make a listener of a :class:`nlbcore.engine.hooks.ListenerPlan`.

        Returns:
            its number, for :meth:`add_acceptor`
        Raises:
            ValueError: too many listeners, or a server name that is too long
        """
        cdef Listener *listener
        cdef bytes key
        cdef uint32_t capacity
        if self.listener_count == LISTENERS:
            raise ValueError(f"more than {LISTENERS} listeners")
        listener = <Listener *>calloc(1, sizeof(Listener))
        if listener == NULL:
            raise MemoryError
        listener.generation = plan.generation
        listener.row = plan.row
        listener.group_row = plan.group_row
        listener.tls = plan.front is not None
        listener.verify = plan.verify
        listener.tickets = plan.tickets
        listener.strict_sni = plan.strict_sni
        listener.on_truncated = TRUNCATED_RESETS if plan.reset_truncated else TRUNCATED_CLOSES
        listener.handshake_timeout = _ms(plan.handshake_timeout)
        listener.connect_timeout = _ms(plan.connect_timeout)
        listener.idle_timeout = _ms(plan.idle_timeout)
        listener.half_close_timeout = _ms(plan.half_close_timeout)
        listener.max_handshakes = plan.max_handshakes
        listener.max_connections = plan.max_connections
        listener.cps = plan.cps
        listener.route = <route_t><uintptr_t>plan.route
        listener.group = <void *><uintptr_t>plan.group
        listener.counters = &block.listeners[listener.row]
        listener.alpn = <const unsigned char *><const char *>(<bytes>plan.alpn)
        listener.alpn_size = len(plan.alpn)
        if plan.revocations is not None:
            listener.revocations = (<Table?>plan.revocations).at
            listener.overdue_accepted = plan.overdue_accepted
        listener.front = <void *>plan.front
        listener.fallback = <SSL_CTX *><uintptr_t>plan.fallback
        capacity = 8
        while capacity < 2 * len(plan.names):
            capacity *= 2
        listener.names = <ServerName *>calloc(capacity, sizeof(ServerName))
        listener.names_mask = capacity - 1
        self.owners.append(plan)
        self.listeners[self.listener_count] = listener
        self.listener_count += 1
        if listener.names == NULL:
            raise MemoryError
        for name, context in plan.names.items():
            key = name.encode("ascii")
            if name_put(listener, key, <uint16_t>len(key), <SSL_CTX *><uintptr_t>context) != 0:
                raise ValueError(f"server name {name!r} is too long")
        return self.listener_count - 1

    def add_acceptor(self, int fd, int listener, bint shared=False):
        """Accept from `fd` for listener number `listener`; the descriptor stays the caller's, and open. With `shared`,
        other processes accept from it too.

        Returns:
            its number, for :meth:`remove_acceptor`
        Raises:
            OSError: it cannot be watched
        """
        cdef int number = acceptor_add(fd, self.listeners[listener], shared)
        if number < 0:
            raise OSError(codes.ENOSPC, f"cannot watch listening socket {fd}")
        return number

    def remove_acceptor(self, uint32_t number):
        """Accept no more from this one: another worker does."""
        acceptor_remove(acceptor_at(number))

    def stop_accepting(self):
        """Accept what is queued, then no more; the caller closes the sockets. ``run()`` returns when the last session
        has ended."""
        cdef uint32_t i
        cdef uint64_t before
        self.draining = True
        for i in range(acceptor_count()):
            if not acceptor_at(i).used:
                continue
            for _round in range(ROUNDS):
                before = block.connection
                session_accept(acceptor_at(i))
                if block.connection == before:
                    break
            acceptor_remove(acceptor_at(i))
        serve_closed()

    def shut(self):
        """End every session; each is logged as ``shutdown``. The channel is not listened to any more."""
        cdef uint32_t i
        cdef Session *s
        cdef int patience = PATIENCE
        for i in range(session_slots()):
            s = session_at(i)
            if s.state not in (FREE, CLOSED):
                session_end(s, SHUTDOWN)
            while journal_half_full() and patience:
                journal_wake(self.eventfd)
                time.sleep(0.001)
                patience -= 1
        serve_closed()
        loop_remove(self.channel)
        journal_wake(self.eventfd)

    def run(self, double seconds=0):
        """Serve until the channel is readable, or until nothing is left to drain, or for some `seconds` (0: for ever).

        Returns:
            True when the channel has something to say
        """
        cdef bint called
        cdef uint64_t until = timers_clock_us() // 1000 + _ms(seconds) if seconds else 0
        with nogil:
            called = self._run(until)
        return called

    cdef bint _run(self, uint64_t until) noexcept nogil:
        cdef Event event
        cdef int n, i, timeout
        cdef bint called = False
        cdef uint64_t beat = 0
        cdef uint64_t begin, spent
        while True:
            timeout = 0
            if not work_waits():
                timeout = timers_wait()
                if timeout < 0 or timeout > BEAT:
                    timeout = BEAT
            n = loop_wait(timeout)
            timers_update()
            begin = timers_clock_us()
            for i in range(n):
                loop_event(i, &event)
                if event.kind == CHANNEL:
                    called = True
                elif event.kind == ACCEPTOR:
                    if acceptor_at(event.slot).used:
                        session_accept(acceptor_at(event.slot))
                else:
                    session_event(&event)
            serve_ready()
            serve_handshakes()
            run_timers()
            serve_closed()
            journal_wake(self.eventfd)
            if timers_now() - beat >= BEAT:
                beat = timers_now()
                block.heartbeat = beat
                sweep()
            spent = timers_clock_us() - begin
            if spent > block.stall_us:
                block.stall_us = spent
            if called:
                return True
            if self.draining and session_count() == 0 or until and timers_now() >= until:
                return False

    def close(self):
        """Close the poller, free the nurseries. Sessions must have been shut."""
        cdef uint32_t i
        cdef int k
        for i in range(acceptor_count()):
            acceptor_remove(acceptor_at(i))
        loop_close()
        for k in range(self.listener_count):
            while self.listeners[k].ready:
                self.listeners[k].ready -= 1
                ossl.SSL_free(self.listeners[k].nursery[self.listeners[k].ready])
            free(self.listeners[k].names)
            free(self.listeners[k])
        self.listener_count = 0
        self.owners.clear()


cdef uint64_t _ms(double seconds):
    return <uint64_t>(seconds * 1000)
