"""The tests' door into the compiled code: each function runs one C function of the engine. Not in release builds.

The timer wheel is the one module whose source is *included* instead of imported: so its variables are ours, and a test
turns the clock instead of waiting for it.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from nlbcore.engine cimport callbacks, counters
from nlbcore.engine.buf cimport Buf, buf_free, buf_keep, buf_sane, buf_waiting
from nlbcore.engine.busypoll cimport busypoll_hope, busypoll_use, busypoll_wait
from nlbcore.engine.callbacks cimport name_context, name_put
from nlbcore.engine.common_name cimport COMMON_NAME, common_name
from nlbcore.engine.counters cimport ListenerCounters, shared
from nlbcore.engine.der cimport (
    SEQUENCE, Cursor, Origin, der_has_alternative_name, der_is_authority, der_origin, der_same_name, der_signed,
    element,
)
from nlbcore.engine.identities cimport identity_count, identity_drop, identity_take
from nlbcore.engine.journal cimport journal_access, journal_event, journal_wake
from nlbcore.engine.linux.socket cimport AF_INET, AF_INET6, AF_UNIX, htons, sockaddr_in, sockaddr_in6, sockaddr_storage
from nlbcore.engine.listener cimport within_cps
from nlbcore.engine.loop cimport CLIENT, Event, loop_add, loop_close, loop_event, loop_open, loop_remove, loop_wait
from nlbcore.engine.openssl cimport BIO, SSL, SSL_CTX, X509, word_of_error, word_of_verify
from nlbcore.engine.plain cimport plain_ops
from nlbcore.engine.preamble cimport FRONT, preamble_due
from nlbcore.engine.queues cimport dequeue, enqueue, queue_first, queue_length, work_waits
from nlbcore.engine.relay cimport (
    PUMP_AGAIN, PUMP_CLIENT_BROKEN, PUMP_DONE, PUMP_SERVER_BROKEN, PUMP_TRUNCATED, PUMP_WAIT, pump,
)
from nlbcore.engine.names cimport (
    Kind, LONGEST_NAME, NO_NAME, Parts, names_alternative, names_attribute, names_parts,
)
from nlbcore.engine.revoked cimport Table, revoked_look
from nlbcore.engine.sha256 cimport sha256_of
from nlbcore.engine.slab cimport (
    HELLO, Identity, Listener, NEWCOMERS, QUEUES, Queue, ServerName, Session, TRUNCATED_CLOSES, TRUNCATED_RESETS,
    session_at, session_count, session_find, session_free, session_new,
)
from nlbcore.engine.tickets cimport AGAIN, UNUSED, tickets_settled, tickets_wanted
from nlbcore.engine.timers cimport Timer
from nlbcore.engine.tls cimport tls_handshake, tls_ops, tls_rest, tls_start
from nlbcore.engine.transport cimport Transport, transport_close, transport_init

import socket

from nlbcore.termination import word

include "timers.pyx"


def is_authority(bytes der):
    return der_is_authority(<const unsigned char *>der, <uint32_t>len(der))


def has_alternative_name(bytes der):
    return der_has_alternative_name(<const unsigned char *>der, <uint32_t>len(der))


def signed_part(bytes der):
    cdef Cursor part
    der_signed(<const unsigned char *>der, <uint32_t>len(der), &part)
    return part.at[:part.end - part.at]


def sha256(bytes data):
    cdef unsigned char digest[32]
    sha256_of(data, <uint32_t>len(data), digest)
    return digest[:32]


cdef list names_of(bytes der, bint subject):
    """Kind and form of each name; None for one that cannot be read."""
    cdef unsigned char name[LONGEST_NAME]
    cdef Parts parts
    cdef Kind kind
    cdef int size
    found = []
    if not names_parts(der, <uint32_t>len(der), &parts):
        raise ValueError
    while True:
        if subject:
            size = names_attribute(&parts.subject, &kind, name)
        else:
            size = names_alternative(&parts.names, &kind, name)
        if size == NO_NAME:
            return found
        found.append((<int>kind, name[:size] if size >= 0 else None))


def subject_names(bytes der):
    return names_of(der, True)


def alternative_names(bytes der):
    return names_of(der, False)


cdef Cursor cursor_of(bytes data):
    cdef Cursor cursor
    cursor.at = <const unsigned char *>data
    cursor.end = cursor.at + len(data)
    return cursor


cdef bytes bytes_of(Cursor cursor):
    return cursor.at[:cursor.end - cursor.at] if cursor.at != NULL else None


def origin(bytes der):
    """Serial number, issuer and authority key identifier of a certificate, or None."""
    cdef Origin found
    if not der_origin(<const unsigned char *>der, <uint32_t>len(der), &found):
        return None
    return bytes_of(found.serial), bytes_of(found.issuer), bytes_of(found.key_id)


def same_name(bytes a, bytes b):
    """Whether two DER Names are one; None when one of them is no sequence."""
    cdef Cursor cursor_a = cursor_of(a)
    cdef Cursor cursor_b = cursor_of(b)
    if element(&cursor_a, &cursor_a) != SEQUENCE or element(&cursor_b, &cursor_b) != SEQUENCE:
        return None
    return bool(der_same_name(cursor_a, cursor_b))


def told_name(bytes der):
    """The common name that servers are told, or None."""
    cdef char text[COMMON_NAME]
    cdef int size = common_name(<const unsigned char *>der, <uint32_t>len(der), text)
    return text[:size] if size else None


def is_front(bytes fronts, bytes address):
    """Whether a peer with this address (4 bytes, 16, or none for a UNIX socket) is in a listener's list."""
    cdef Listener listener
    cdef Session s
    memset(&s, 0, sizeof(s))
    memset(&listener, 0, sizeof(listener))
    s.listener = &listener
    listener.front_list = <const unsigned char *>fronts
    listener.fronts = <uint32_t>(len(fronts) // FRONT)
    s.peer.ss_family = AF_INET if len(address) == 4 else AF_INET6 if address else AF_UNIX
    if len(address) == 4:
        memcpy(&(<sockaddr_in *>&s.peer).sin_addr, <const char *>address, 4)
    else:
        memcpy(&(<sockaddr_in6 *>&s.peer).sin6_addr, <const char *>address, len(address))
    return bool(preamble_due(&s))


def look_up(Table table, bytes der, bytes key, int64_t now, bint overdue_accepted=False):
    """The verification result of a certificate, its issuer's key known or None."""
    return look_about(table, der, key, now, overdue_accepted)[0]


def look_about(Table table, bytes der, bytes key, int64_t now, bint overdue_accepted=False):
    """The same, and the subject of the CA that it is about."""
    cdef Cursor about
    cdef int result = revoked_look(table.at, <const unsigned char *>der, <uint32_t>len(der),
                                   <const unsigned char *>key if key is not None else NULL,
                                   <uint32_t>len(key) if key is not None else 0, now, overdue_accepted, &about)
    return result, about.at[:about.end - about.at]


def verify_word(long result):
    return word(word_of_verify(result))


def error_word(unsigned long error):
    return word(word_of_error(error))


def find_name(dict names, bytes name, int64_t now=0, dict later=None):
    """Which of `names` (lower case, to a number above 0) a client's server name finds, until 100; which of `later`
    from then on; 0 for none."""
    cdef Listener listener
    cdef uint32_t capacity = 8
    cdef bytes key
    memset(&listener, 0, sizeof(listener))
    later = later or {}
    while capacity < 2 * (len(names) + len(later)):
        capacity *= 2
    listener.names = <ServerName *>calloc(capacity, sizeof(ServerName))
    listener.names_mask = capacity - 1
    try:
        for text, number in names.items():
            key = text.encode()
            if name_put(&listener, key, <uint16_t>len(key), <SSL_CTX *><uintptr_t>number, 0, 100) != 0:
                raise ValueError(f"{text} is too long")
        for text, number in later.items():
            key = text.encode()
            name_put(&listener, key, <uint16_t>len(key), <SSL_CTX *><uintptr_t>number, 100, 200)
        return <uintptr_t>name_context(&listener, name, now)
    finally:
        free(listener.names)


def identity(uintptr_t certificate):
    """Dates, fault and DER of the identity of an X509 at an address; and that equal ones are one."""
    cdef unsigned int before = identity_count()
    cdef Identity *one = identity_take(<X509 *>certificate)
    cdef Identity *two = identity_take(<X509 *>certificate)
    result = (one.not_before, one.not_after, one.fault, one.der[:one.size], one.sha256[:32])
    assert one == two and identity_count() == before + 1
    identity_drop(one)
    identity_drop(two)
    assert identity_count() == before
    return result


def ticket_counts():
    """UNUSED and AGAIN of tickets.pyx."""
    return UNUSED, AGAIN


def tickets_wanted_by(uint16_t row, address):
    """Whether a full handshake from this IPv4 or IPv6 address gets tickets now."""
    cdef sockaddr_storage peer = peer_of(address)
    return bool(tickets_wanted(row, &peer))


def tickets_settle(uint16_t row, address, bint resumed):
    """A client of that address was let in."""
    cdef sockaddr_storage peer = peer_of(address)
    tickets_settled(row, &peer, resumed)


cdef sockaddr_storage peer_of(address):
    cdef sockaddr_storage peer
    cdef bytes packed = address.packed
    memset(&peer, 0, sizeof(peer))
    if len(packed) == 4:
        peer.ss_family = AF_INET
        memcpy(&(<sockaddr_in *>&peer).sin_addr, <const char *>packed, 4)
    else:
        peer.ss_family = AF_INET6
        memcpy(&(<sockaddr_in6 *>&peer).sin6_addr, <const char *>packed, 16)
    return peer


cdef class Limit:
    """A listener's limit of connections a second."""

    cdef Listener listener

    def __cinit__(self, uint32_t cps):
        memset(&self.listener, 0, sizeof(Listener))
        self.listener.cps = cps
        shared.cps_due[0] = 0

    def admit(self, int attempts):
        """How many of so many connections at once get in."""
        cdef int count = 0
        while attempts:
            count += within_cps(&self.listener)
            attempts -= 1
        return count

    def let_pass(self, uint64_t microseconds):
        """As if so much time had passed."""
        shared.cps_due[0] -= microseconds * 1000


cdef class Queues:
    """Sessions, by their number, in the lists of queues.pyx."""

    cdef Session *sessions
    cdef int size

    def __cinit__(self, int size):
        self.size = size
        self.sessions = <Session *>calloc(size, sizeof(Session))
        if self.sessions == NULL:
            raise MemoryError

    def __dealloc__(self):
        for number in range(self.size):
            dequeue(&self.sessions[number])
        free(self.sessions)

    def enqueue(self, int number, int queue):
        enqueue(&self.sessions[number], <Queue>queue)

    def dequeue(self, int number):
        dequeue(&self.sessions[number])

    def serve(self, int queue):
        """The numbers of a list in their order; it is empty afterwards."""
        served = []
        while queue_first(<Queue>queue) != NULL:
            served.append(queue_first(<Queue>queue) - self.sessions)
            dequeue(queue_first(<Queue>queue))
        return served

    def lengths(self):
        """Of the four lists, and whether anybody waits."""
        return [queue_length(<Queue>queue) for queue in range(NEWCOMERS, QUEUES)], work_waits()


cdef class Slab:
    """The slab of this process; sessions in it by slot number."""

    def take(self):
        """Slot and generation of a session in use."""
        cdef Session *s = session_new()
        s.state = HELLO
        return s.slot, s.generation

    def free(self, uint32_t slot):
        session_free(session_at(slot))

    def finds(self, uint32_t slot, uint32_t generation):
        """Whether an event with this tag finds its session."""
        cdef Session *s = session_find(slot, generation)
        return s != NULL and s.slot == slot

    def fresh(self, uint32_t slot):
        """Whether a session just taken carries nothing of the one before it."""
        cdef Session *s = session_at(slot)
        return s.client.fd == -1 and s.server.fd == -1 and s.id == 0 and s.timer.due == 0

    def soil(self, uint32_t slot, uint32_t generation):
        """Leave traces of a connection, and put the generation forward."""
        cdef Session *s = session_at(slot)
        s.id = s.timer.due = 7
        s.client.fd = s.server.fd = 1
        s.generation = generation

    def count(self):
        return session_count()


def keep_bytes(bytes data):
    """Through a Buf and out again."""
    cdef Buf buf
    memset(&buf, 0, sizeof(buf))
    assert buf_sane(&buf)
    assert buf_keep(&buf, <const unsigned char *>data, <uint32_t>len(data)) == 0
    assert buf_sane(&buf)
    out = bytearray()
    while buf_waiting(&buf):
        out.append(buf.data[buf.done])
        buf.done += 1
        assert buf_sane(&buf)
    buf_free(&buf)
    assert buf_sane(&buf)
    return bytes(out)


cdef void *wheel_owner = NULL


cdef class Wheel:
    """Numbered timers in a wheel of our own, on a clock that the test turns. The one made last has the wheel."""

    cdef Timer *timers
    cdef int count

    def __cinit__(self, int count, uint64_t start):
        self.timers = <Timer *>calloc(count, sizeof(Timer))
        self.count = count
        take_wheel(<void *>self)
        self.turn(start)
        set_reached(start // TICK)

    def __dealloc__(self):
        if wheel_owner == <void *>self:
            take_wheel(NULL)
        free(self.timers)

    def turn(self, uint64_t now):
        """It is now `now` ms."""
        global now_ms
        now_ms = now

    def set(self, int number, uint64_t deadline):
        timer_set(&self.timers[number], deadline)

    def clear(self, int number):
        timer_clear(&self.timers[number])

    def armed(self, int number):
        return self.timers[number].due != 0

    def wait(self):
        return timers_wait()

    def due(self):
        """The numbers of the timers that fire now."""
        cdef Timer *timer
        fired = []
        while True:
            timer = timers_pop()
            if timer == NULL:
                return fired
            fired.append(timer - self.timers)


cdef void take_wheel(void *owner) noexcept nogil:
    global wheel_owner
    wheel_owner = owner
    timers_reset()


cdef void set_reached(uint64_t tick) noexcept nogil:
    global reached
    reached = tick


def clock_us():
    return timers_clock_us()


def updated_clock():
    timers_update()
    return timers_now()


cdef class Pipe:
    """A transport on a socket, its operations one by one.

    Args:
        fd: a non-blocking socket, which the Pipe owns
        tls: addresses of the ``SSL`` and its two BIOs (the ``SSL`` is owned too); None for a plain transport
    """

    cdef Transport t

    def __cinit__(self, int fd, tls=None):
        transport_init(&self.t, fd, &plain_ops)
        self.t.readable = True
        if tls is not None:
            self.t.ops = &tls_ops
            tls_start(&self.t, <SSL *><uintptr_t>tls[0], <BIO *><uintptr_t>tls[1], <BIO *><uintptr_t>tls[2])

    def ready(self, bint readable=True, bint writable=True, bint rdhup=False):
        """A new round, and what epoll would have said."""
        self.t.spent = 0
        self.t.readable = readable
        self.t.writable = writable
        self.t.rdhup = rdhup

    def handshake(self):
        """One step."""
        return tls_handshake(&self.t)

    def rest(self):
        """Fresh BIOs; whether nothing is stretched now."""
        tls_rest(&self.t)
        return not self.t.stretched

    def read(self, int size):
        cdef bytearray into = bytearray(size)
        cdef int n = self.t.ops.read(&self.t, into, size)
        return bytes(into[:n]) if n > 0 else n

    def write(self, bytes data):
        return self.t.ops.write(&self.t, <const unsigned char *>data, <int>len(data))

    def flush(self):
        return self.t.ops.flush(&self.t)

    def shutdown(self):
        return self.t.ops.shutdown(&self.t)

    def backlog(self):
        return self.t.ops.backlog(&self.t)

    def pending(self):
        return bool(self.t.ops.pending(&self.t))

    def state(self):
        return {"ended": bool(self.t.ended), "clean": bool(self.t.clean), "shut": bool(self.t.shut),
                "fin": bool(self.t.fin), "error": self.t.error, "ssl_error": self.t.ssl_error}

    def close(self, bint reset=False):
        transport_close(&self.t, reset)


cdef class Pump:
    """The relay between two plain transports, whose sockets it owns."""

    cdef Session s
    cdef Listener listener
    cdef ListenerCounters counters

    def __cinit__(self, int client, int server, bint reset_truncated=False):
        memset(&self.counters, 0, sizeof(ListenerCounters))
        memset(&self.s, 0, sizeof(Session))
        memset(&self.listener, 0, sizeof(Listener))
        self.listener.on_truncated = TRUNCATED_RESETS if reset_truncated else TRUNCATED_CLOSES
        self.listener.counters = &self.counters
        self.s.listener = &self.listener
        transport_init(&self.s.client, client, &plain_ops)
        transport_init(&self.s.server, server, &plain_ops)

    def close(self):
        transport_close(&self.s.client, False)
        transport_close(&self.s.server, False)

    def run(self):
        """One round, with both sockets reported as ready."""
        names = {PUMP_WAIT: "wait", PUMP_AGAIN: "again", PUMP_DONE: "done", PUMP_CLIENT_BROKEN: "client broken",
                 PUMP_SERVER_BROKEN: "server broken", PUMP_TRUNCATED: "truncated"}
        self.s.client.readable = self.s.client.writable = True
        self.s.server.readable = self.s.server.writable = True
        return names[pump(&self.s)]

    def cut_off(self):
        """The client has ended, and not in order."""
        self.s.client.ended = True
        self.s.client.clean = False

    def state(self):
        return {"received": self.s.received, "sent": self.s.sent, "ending": word(self.s.ending),
                "up": self.s.server.ops.backlog(&self.s.server), "down": self.s.client.ops.backlog(&self.s.client)}


cdef class Poller:
    """The process's epoll instance."""

    def __cinit__(self):
        if loop_open() != 0:
            raise OSError("epoll")

    def close(self):
        loop_close()

    def add(self, int fd, uint32_t slot, uint32_t generation, bint edge=True):
        return loop_add(fd, CLIENT, slot, generation, edge)

    def remove(self, int fd):
        loop_remove(fd)

    def busy_poll(self, bint on):
        busypoll_use(on)

    def poll(self, int timeout, int events, uint64_t moved):
        """How many events there are after a round of so many events and bytes; and how likely the next one seems."""
        return busypoll_wait(timeout, events, moved), busypoll_hope()

    def wait(self, int timeout):
        """(slot, generation, flags) of each event."""
        cdef Event event
        cdef int i
        found = []
        for i in range(loop_wait(timeout)):
            loop_event(i, &event)
            assert event.kind == CLIENT
            found.append((event.slot, event.generation, event.flags))
        return found


def block_address():
    """Where this process counts."""
    return <uintptr_t>counters.block


def write_event(int level, bytes text):
    journal_event(level, text)


def wake(int eventfd):
    journal_wake(eventfd)


def write_access(dict fields, bytes der=b"", address=None, int family=AF_UNIX):
    """The record of a plain connection: `fields` by the names in Session, and of its listener."""
    cdef Session s
    cdef Listener listener
    cdef Identity holder
    cdef bytes authority, detail, packed
    cdef sockaddr_in *v4 = <sockaddr_in *>&s.peer
    cdef sockaddr_in6 *v6 = <sockaddr_in6 *>&s.peer
    memset(&s, 0, sizeof(s))
    memset(&listener, 0, sizeof(listener))
    memset(&holder, 0, sizeof(holder))
    s.listener = &listener
    listener.row = fields.get("row", 0)
    listener.group_row = fields.get("group_row", 0)
    listener.generation = fields.get("generation", 0)
    s.termination = fields.get("termination", 0)
    s.id = fields.get("id", 0)
    s.proven = fields.get("proven", 0)
    s.verify_error = fields.get("verify_error", 0)
    s.verify_depth = fields.get("verify_depth", 0)
    s.detail_errno = fields.get("detail_errno", 0)
    s.tries = fields.get("tries", 0)
    s.server_row = fields.get("server_row", 0)
    s.received = fields.get("received", 0)
    s.sent = fields.get("sent", 0)
    s.accepted = fields.get("accepted", 0)
    s.handshaken = fields.get("handshaken", 0)
    s.dialled = fields.get("dialled", 0)
    s.connected = fields.get("connected", 0)
    detail = fields.get("detail", b"")
    if detail:
        s.detail = detail
    authority = fields.get("authority", b"")
    s.authority = <unsigned char *>authority
    s.authority_size = <uint16_t>len(authority)
    s.peer.ss_family = <unsigned short>family
    if family == AF_INET:
        v4.sin_port = htons(address[1])
        packed = socket.inet_pton(AF_INET, address[0])
        memcpy(&v4.sin_addr, <const char *>packed, 4)
    elif family == AF_INET6:
        v6.sin6_port = htons(address[1])
        packed = socket.inet_pton(AF_INET6, address[0])
        memcpy(&v6.sin6_addr, <const char *>packed, 16)
    if der:
        holder.der = <unsigned char *>der
        holder.size = <unsigned int>len(der)
        s.identity = &holder
    journal_access(&s)


cdef class Current:
    """A connection that the C callbacks find, with the rules of its listener; see ``callbacks.pyx``."""

    cdef Session s
    cdef Listener listener
    cdef object keep

    def __cinit__(self, uintptr_t fallback=0, dict names=None, bint verify=False, bint tickets=True,
                  bint strict_sni=False, bytes alpn=b"", Table revocations=None, bint overdue_accepted=False,
                  bint optional=False, bint report=False):
        cdef uint32_t capacity = 8
        cdef bytes key
        memset(&self.s, 0, sizeof(Session))
        memset(&self.listener, 0, sizeof(Listener))
        names = names or {}
        while capacity < 2 * len(names):
            capacity *= 2
        self.s.listener = &self.listener
        self.keep = (alpn, revocations)
        self.listener.names = <ServerName *>calloc(capacity, sizeof(ServerName))
        self.listener.names_mask = capacity - 1
        self.listener.fallback = <SSL_CTX *>fallback
        self.listener.verify = verify
        self.listener.optional = optional
        self.listener.report = report
        self.listener.tickets = tickets
        self.listener.strict_sni = strict_sni
        self.listener.overdue_accepted = overdue_accepted
        if revocations is not None:
            self.listener.revocations = revocations.at
        self.listener.alpn = <const unsigned char *><const char *>alpn
        self.listener.alpn_size = <uint32_t>len(alpn)
        for text, context in names.items():
            key = text.encode()
            assert name_put(&self.listener, key, <uint16_t>len(key), <SSL_CTX *><uintptr_t>context, 0, 2 ** 62) == 0

    def __dealloc__(self):
        identity_drop(self.s.identity)
        free(self.s.authority)
        free(self.listener.names)

    def __enter__(self):
        callbacks.current = &self.s
        return self

    def __exit__(self, *_):
        callbacks.current = NULL

    def verdict(self):
        """What the callbacks have noted."""
        return {"verify_error": self.s.verify_error, "verify_depth": self.s.verify_depth,
                "name_refused": bool(self.s.name_refused), "alpn_refused": bool(self.s.alpn_refused),
                "der": self.s.identity.der[:self.s.identity.size] if self.s.identity != NULL else b""}
