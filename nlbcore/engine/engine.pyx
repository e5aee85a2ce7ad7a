"""The door to the compiled data plane: what a worker's Python sets up, and the loop it then runs without the GIL.

One engine per process; its state is the modules' own. Python runs again only to make TLS connections for a nursery
(4 at a time), and when ``run()`` returns because the supervisor has something to say. Work that is too long for one
round of the loop - preparing a generation, freeing one - is done in steps between rounds, with ``turn()``.

A listener of the engine is one of one generation. A reload adds the new one, moves the acceptors to it and says that it
*succeeds* the old one, which serves those it has and is *reaped* when the last of them has ended.
"""

import errno as codes
import os
import time

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from nlbcore.engine.busypoll cimport busypoll_use, busypoll_wait
from nlbcore.engine.callbacks cimport name_put
from nlbcore.engine.counters cimport GROUPS, LISTENERS, block
from nlbcore.engine.examine cimport ask_clients
from nlbcore.engine.hooks cimport route_t
from nlbcore.engine.janitor cimport recheck_begin, recheck_closed, recheck_slice, sweep, sweep_begin, sweeping
from nlbcore.engine.journal cimport LONGEST_RECORD, journal_connection, journal_half_full, journal_wake
from nlbcore.engine.listener cimport (
    ACCEPTOR_TIMER, ACCEPTORS, Acceptor, acceptor_add, acceptor_at, acceptor_count, acceptor_move, acceptor_remove,
    acceptor_resume,
)
from nlbcore.engine.loop cimport ACCEPTOR, CHANNEL, Event, loop_add, loop_close, loop_event, loop_open, loop_remove
from nlbcore.engine.linux.unistd cimport errno, write
from nlbcore.engine.memory cimport memory_tune
from nlbcore.engine.openssl cimport BIO, SSL, SSL_CTX, ossl
from nlbcore.engine.preamble cimport FRONT
from nlbcore.engine.queues cimport work_waits
from nlbcore.engine.refusals cimport refusals_sum
from nlbcore.engine.relay cimport relay_moved
from nlbcore.engine.rounds cimport note_event, serve_waiting
from nlbcore.engine.session cimport (
    serve_closed, session_accept, session_end, session_timeout, sessions_open,
)
from nlbcore.engine.slab cimport (
    ANNOUNCE_CERTIFICATE, ANNOUNCE_ENDS, ANNOUNCE_LINE, ANNOUNCE_NOTHING, ANNOUNCE_TLS, CLOSED, FLUSH, FREE, LINGER,
    Listener, NURSERY, ServerName, Session, TRUNCATED_CLOSES, TRUNCATED_RESETS, session_at, session_count,
    session_slots,
)
from nlbcore.engine.timers cimport (
    Timer, timers_clock_us, timers_now, timers_pop, timers_reset, timers_update, timers_wait,
)
from nlbcore.engine.trust cimport trust_epoch
from nlbcore.termination cimport KILLED, SHUTDOWN

cdef enum:
    BEAT = 100              # ms between heartbeats, and pieces of the janitor's work
    ROUNDS = 512            # of accepting what is queued, before accepting ends
    SWEEP = 200             # us of the janitor's work in a round: no more than a step of a handshake
    PATIENCE = 500          # ms for the log writer while every session is ended
    DUMPED = 64             # sessions that one slice of a dump writes
    LOOKED_AT = 4096        # sessions that one slice of killing looks at

cdef unsigned char record[LONGEST_RECORD]

_ANNOUNCE = {
    "off": ANNOUNCE_NOTHING, "v1": ANNOUNCE_LINE, "v2": ANNOUNCE_ENDS, "tls": ANNOUNCE_TLS,
    "full": ANNOUNCE_CERTIFICATE,
}


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
    cdef int events         # of the last round ...
    cdef uint64_t moved     # ... and the bytes moved in it
    cdef uint64_t beat
    cdef int numbered
    cdef dict installed

    def __init__(self, uint32_t slot, int channel, int eventfd):
        self.channel = channel
        self.eventfd = eventfd
        self.installed = {}
        memory_tune()
        timers_reset()
        if loop_open() != 0:
            raise OSError(errno, os.strerror(errno), "epoll")
        if loop_add(channel, CHANNEL, 0, 0, False) != 0:
            failed = errno
            loop_close()
            raise OSError(failed, os.strerror(failed), "channel")
        sessions_open(slot, refill)

    def busy_poll(self, bint on):
        """Whether to look for the next message for a moment before sleeping; see busypoll.pyx."""
        busypoll_use(on)

    def add_listener(self, plan):
        """Make a listener of a :class:`nlbcore.engine.hooks.ListenerPlan`.

        Returns:
            its number, for :meth:`add_acceptor` and the others; it is not used again
        Raises:
            ValueError: a row that the segment has not, or a server name that is too long
        """
        cdef _Installed installed = _Installed(plan)
        cdef Listener *listener = installed.at
        cdef uint32_t capacity
        if not (0 <= plan.row < LISTENERS and 0 <= plan.group_row < GROUPS):
            raise ValueError(f"the segment has no row {plan.row} of listeners or {plan.group_row} of server groups")
        listener.generation = plan.generation
        listener.row = plan.row
        listener.group_row = plan.group_row
        listener.tls = plan.front is not None
        ask_clients(listener, plan)
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
        listener.per_certificate = plan.max_connections_per_certificate
        listener.refusals = plan.refusals
        listener.route = <route_t><uintptr_t>plan.route
        listener.group = <void *><uintptr_t>plan.group
        listener.counters = &block.listeners[listener.row]
        listener.alpn = <const unsigned char *><const char *>(<bytes>plan.alpn)
        listener.alpn_size = len(plan.alpn)
        listener.announce = _ANNOUNCE[plan.announce]
        listener.announce_limit = plan.announce_limit
        listener.node = <const char *>(<bytes>plan.node)
        listener.front_list = <const unsigned char *><const char *>(<bytes>plan.fronts)
        listener.fronts = len(plan.fronts) // FRONT
        listener.front = <void *>plan.front
        listener.fallback = <SSL_CTX *><uintptr_t>plan.fallback
        capacity = 8
        while capacity < 2 * (len(plan.names) + plan.more_names):
            capacity *= 2
        listener.names = <ServerName *>calloc(capacity, sizeof(ServerName))
        listener.names_mask = capacity - 1
        if listener.names == NULL:
            raise MemoryError
        self.numbered += 1
        self.installed[self.numbered] = installed
        self.add_names(self.numbered, plan.names)
        return self.numbered

    def add_names(self, int number, names):
        """Enter server names of listener `number`, as many as its plan has announced; each has the address of its
        certificate context.

        Raises:
            ValueError: a name that is too long
        """
        for name, context in names.items():
            self.add_name(number, name, context)

    def add_name(self, int number, str name, uintptr_t context, int64_t since=-(1 << 62), int64_t until=1 << 62):
        """Enter a server name, for a time (Unix seconds, the end not included); "" is for who names nobody we know.

        Raises:
            ValueError: it is too long
        """
        cdef bytes key = name.encode("ascii")
        if name_put(self._listener(number), key, <uint16_t>len(key), <SSL_CTX *>context, since, until) != 0:
            raise ValueError(f"server name {name!r} is too long")

    cdef Listener *_listener(self, int number) except NULL:
        return (<_Installed?>self.installed[number]).at

    def succeed(self, int number):
        """From now on listener `number` is the one in force of its row: it takes over whom the earlier ones have
        accepted and not yet heard of; nothing here can fail."""
        cdef Listener *listener = self._listener(number)
        cdef Listener *earlier
        for other in self.installed.values():
            earlier = (<_Installed>other).at
            if earlier != listener and earlier.row == listener.row:
                _retire(earlier, listener)
                if (<_Installed>self.installed[number]).plan.lost_trust:
                    earlier.reverify = True
        trust_epoch()

    def retire(self, int number):
        """The listener is no more: it serves those it has, until its time is over."""
        cdef Listener *listener = self._listener(number)
        for other in self.installed.values():
            if (<_Installed>other).at.row == listener.row:
                _retire((<_Installed>other).at, NULL)

    def forget(self, int number):
        """A listener that was added and never put in force is not wanted."""
        self._listener(number).retired = True

    def reap(self):
        """Take out the retired listeners that nobody needs any more.

        Returns:
            their plans, for the caller to free
        """
        gone = [number for number, one in self.installed.items()
                if (<_Installed>one).at.retired and (<_Installed>one).at.references == 0]
        return [(<_Installed>self.installed.pop(number)).plan for number in gone]

    def generations(self):
        """The numbers of the generations that somebody still needs."""
        return {(<_Installed>one).at.generation for one in self.installed.values()}

    def add_acceptor(self, int fd, int listener, bint shared=False):
        """Accept from `fd` for listener number `listener`; the descriptor stays the caller's, and open. With `shared`,
        other processes accept from it too.

        Returns:
            its number, for :meth:`remove_acceptor`
        Raises:
            OSError: it cannot be watched
        """
        cdef int number = acceptor_add(fd, self._listener(listener), shared)
        if number < 0:
            raise OSError(codes.ENOSPC, f"cannot watch listening socket {fd}")
        return number

    def move_acceptor(self, uint32_t number, int listener):
        """Accept for another listener from now on."""
        acceptor_move(acceptor_at(number), self._listener(listener))

    def remove_acceptor(self, uint32_t number):
        """Accept no more from this one: another worker does."""
        acceptor_remove(acceptor_at(number))

    def drain_acceptor(self, uint32_t number):
        """Accept what is queued there, then no more: it will be closed."""
        cdef uint64_t before
        if acceptor_at(number).used:
            for _round in range(ROUNDS):
                before = block.connection
                session_accept(acceptor_at(number))
                if block.connection == before:
                    break
        acceptor_remove(acceptor_at(number))
        serve_closed()

    def stop_accepting(self):
        """Accept what is queued, then no more; the caller closes the sockets. ``run()`` returns when the last session
        has ended."""
        self.draining = True
        for number in range(acceptor_count()):
            self.drain_acceptor(number)

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
        refusals_sum(True)
        journal_wake(self.eventfd)

    # -- slices of longer work ----------------------------------------------------------------------------------------

    def recheck(self):
        """Begin to look whether all live connections would be let in today; :meth:`recheck_slice` goes on."""
        recheck_begin()

    def recheck_slice(self, uint64_t us):
        """Go on for so many microseconds.

        Returns:
            how many connections were closed, when all have been looked at; else None
        """
        cdef bint done = recheck_slice(us)
        serve_closed()
        return recheck_closed() if done else None

    def dump_slice(self, int fd, uint32_t slot):
        """Write a record of each live connection from `slot` on into a file.

        Returns:
            where to go on, None when there are no more
        Raises:
            OSError: it cannot be written
        """
        cdef Session *s
        cdef uint32_t size, written
        cdef ssize_t n
        cdef int left = DUMPED
        while slot < session_slots():
            s = session_at(slot)
            slot += 1
            if s.state in (FREE, CLOSED):
                continue
            size = journal_connection(s, record)
            written = 0
            while written < size:
                n = write(fd, record + written, size - written)
                if n < 0:
                    raise OSError(errno, os.strerror(errno))
                written += n
            left -= 1
            if left == 0:
                return slot
        return None

    def kill_slice(self, numbers, uint32_t slot):
        """End the connections from `slot` on whose number is in the set `numbers`.

        Returns:
            where to go on (None when there are no more), and how many were ended
        """
        cdef Session *s
        cdef int ended = 0
        cdef uint32_t until = min(slot + LOOKED_AT, session_slots())
        while slot < until:
            s = session_at(slot)
            if s.state not in (FREE, CLOSED, FLUSH, LINGER) and s.id in numbers:
                session_end(s, KILLED)
                ended += 1
            slot += 1
        serve_closed()
        return (slot if slot < session_slots() else None), ended

    # -- the loop -----------------------------------------------------------------------------------------------------

    @property
    def busy(self):
        """Whether connections wait for their turn."""
        return work_waits()

    def run(self, double seconds=0):
        """Serve until the channel is readable, or until nothing is left to drain, or for some `seconds` (0: for ever).

        Returns:
            True when the channel has something to say; None when nothing is left to drain, else False
        """
        cdef bint called
        cdef uint64_t until = timers_clock_us() // 1000 + _ms(seconds) if seconds else 0
        with nogil:
            called = self._run(until)
        return called or self._ended()

    def turn(self):
        """Serve one round, without waiting for anything.

        Returns:
            True when the channel has something to say; None when nothing is left to drain, else False
        """
        cdef bint called
        with nogil:
            called = self._round(0)
        return called or self._ended()

    cdef object _ended(self):
        if not self.draining or session_count():
            return False
        refusals_sum(True)
        journal_wake(self.eventfd)
        return None

    cdef bint _run(self, uint64_t until) noexcept nogil:
        cdef int timeout
        while True:
            timeout = 0
            if not work_waits() and not sweeping():
                timeout = timers_wait()
                if timeout < 0 or timeout > BEAT:
                    timeout = BEAT
            if self._round(timeout):
                return True
            if self.draining and session_count() == 0 or until and timers_now() >= until:
                return False

    cdef bint _round(self, int timeout) noexcept nogil:
        """Wait at most `timeout` ms for events and serve them; whether the channel is readable."""
        cdef Event event
        cdef int n, i
        cdef bint called = False
        cdef uint64_t begin, spent
        cdef uint64_t moved = relay_moved()
        n = busypoll_wait(timeout, self.events, self.moved)
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
                note_event(&event)
        serve_waiting()
        self.events = n
        self.moved = relay_moved() - moved
        run_timers()
        serve_closed()
        journal_wake(self.eventfd)
        if timers_now() - self.beat >= BEAT:
            self.beat = timers_now()
            block.heartbeat = self.beat
            sweep_begin()
            refusals_sum(False)
        if sweeping():
            sweep(SWEEP)
        spent = timers_clock_us() - begin
        if spent > block.stall_us:
            block.stall_us = spent
        return called

    def close(self):
        """Close the poller, free the listeners. Sessions must have been shut."""
        for number in range(acceptor_count()):
            acceptor_remove(acceptor_at(number))
        loop_close()
        self.installed.clear()


@cython.final
cdef class _Installed:
    """A listener and the plan that owns what it points to."""

    cdef Listener *at
    cdef object plan

    def __cinit__(self, plan):
        self.plan = plan
        self.at = <Listener *>calloc(1, sizeof(Listener))
        if self.at == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.at != NULL:
            _flush(self.at)
            free(self.at.names)
            free(self.at)


cdef void _flush(Listener *listener) noexcept nogil:
    """Throw the ready TLS connections away: they carry the settings of the time when they were made."""
    while listener.ready:
        listener.ready -= 1
        ossl.SSL_free(listener.nursery[listener.ready])


cdef void _retire(Listener *listener, Listener *successor) noexcept nogil:
    listener.retired = True
    listener.successor = successor
    _flush(listener)


def acceptors():
    """How many listening sockets a worker can watch."""
    return ACCEPTORS


cdef uint64_t _ms(double seconds):
    return <uint64_t>(seconds * 1000)
