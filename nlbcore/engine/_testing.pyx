"""The tests' door into the compiled code: each function runs one C function of the engine. Not in release builds."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from nlbcore.engine.buf cimport Buf, buf_free, buf_keep, buf_sane, buf_waiting
from nlbcore.engine.callbacks cimport name_context, name_put
from nlbcore.engine.der cimport der_is_authority
from nlbcore.engine.identities cimport identity_count, identity_drop, identity_take
from nlbcore.engine.listener cimport within_cps
from nlbcore.engine.openssl cimport SSL_CTX, X509, word_of_error, word_of_verify
from nlbcore.engine.plain cimport plain_ops
from nlbcore.engine.slab cimport (
    HELLO, Identity, Listener, ServerName, Session, session_count, session_find, session_free, session_new,
)
from nlbcore.engine.timers cimport (
    Timer, timer_clear, timer_set, timers_now, timers_pop, timers_reset, timers_update, timers_wait,
)
from nlbcore.engine.transport cimport Transport, transport_close, transport_init
from nlbcore.termination import word


def is_authority(bytes der):
    return der_is_authority(<const unsigned char *>der, <uint32_t>len(der))


def verify_word(long result):
    return word(word_of_verify(result))


def error_word(unsigned long error):
    return word(word_of_error(error))


def find_name(dict names, bytes name):
    """Which of `names` (lower case, to a number above 0) a client's server name finds; 0 for none."""
    cdef Listener listener
    cdef uint32_t capacity = 8
    cdef bytes key
    memset(&listener, 0, sizeof(listener))
    while capacity < 2 * len(names):
        capacity *= 2
    listener.names = <ServerName *>calloc(capacity, sizeof(ServerName))
    listener.names_mask = capacity - 1
    try:
        for text, number in names.items():
            key = text.encode()
            if name_put(&listener, key, <uint16_t>len(key), <SSL_CTX *><uintptr_t>number) != 0:
                raise ValueError(text)
        return <uintptr_t>name_context(&listener, name)
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


def admitted(uint32_t cps, int attempts):
    """How many of so many connections at once a limit a second lets in."""
    cdef Listener listener
    cdef int i
    cdef int count = 0
    memset(&listener, 0, sizeof(listener))
    listener.cps = cps
    for i in range(attempts):
        count += within_cps(&listener)
    return count


def stale_events():
    """Whether an event of a freed session finds nothing, also when its slot was given to a new one."""
    cdef Session *s = session_new()
    cdef uint32_t slot = s.slot
    cdef uint32_t generation = s.generation
    cdef uint32_t live = session_count()
    s.state = HELLO
    found = session_find(slot, generation) == s
    session_free(s)
    gone = session_find(slot, generation) == NULL
    s = session_new()
    reused = s.slot == slot and session_find(slot, generation) == NULL
    session_free(s)
    return found, gone, reused, session_count() == live - 1


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


cdef class Wheel:
    """Numbered timers in the real wheel, on the real clock."""

    cdef Timer *timers
    cdef int count

    def __cinit__(self, int count):
        self.timers = <Timer *>calloc(count, sizeof(Timer))
        self.count = count
        timers_reset()

    def __dealloc__(self):
        timers_reset()
        free(self.timers)

    def now(self):
        timers_update()
        return timers_now()

    def set(self, int number, uint64_t deadline):
        timer_set(&self.timers[number], deadline)

    def clear(self, int number):
        timer_clear(&self.timers[number])

    def wait(self):
        return timers_wait()

    def due(self):
        """The numbers of the timers that fire now."""
        cdef Timer *timer
        fired = []
        timers_update()
        while True:
            timer = timers_pop()
            if timer == NULL:
                return fired
            fired.append(timer - self.timers)


cdef class Pipe:
    """A transport on a socket, its operations one by one. `tls` would need a handshake; this door is for plain."""

    cdef Transport t

    def __cinit__(self, int fd):
        transport_init(&self.t, fd, &plain_ops)
        self.t.readable = True

    def ready(self, bint readable=True, bint writable=True):
        self.t.readable = readable
        self.t.writable = writable

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

    def state(self):
        return {"ended": self.t.ended, "clean": self.t.clean, "shut": self.t.shut, "error": self.t.error}

    def close(self, bint reset=False):
        transport_close(&self.t, reset)
