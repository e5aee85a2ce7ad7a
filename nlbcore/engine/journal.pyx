"""The access record of a connection, put into the worker's log ring: a struct, a few short texts, the certificate.

No formatting and no system call here: the log writer makes JSON of it in its own process (observe/access_log.py, which
reads exactly this layout). The ring is one writer's and one reader's. A record is complete before `head` moves, so a
worker that is killed leaves no half record; one that finds no room is dropped and counted.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen
from nlbcore.engine.callbacks cimport verdict_about
from nlbcore.engine.counters cimport RING, block
from nlbcore.engine.der cimport Cursor
from nlbcore.engine.linux.clock cimport CLOCK_REALTIME, clock_gettime, timespec
from nlbcore.engine.linux.socket cimport AF_INET, AF_INET6, ntohs, sockaddr_in, sockaddr_in6
from nlbcore.engine.linux.unistd cimport write
from nlbcore.engine.openssl cimport TLSEXT_NAMETYPE_host_name, ossl
from nlbcore.engine.rules cimport V_DENIED, rules_reason
from nlbcore.engine.slab cimport Session
from nlbcore.engine.timers cimport timers_clock_us

cdef extern from *:
    """
    #define nlb_store(where, value) __atomic_store_n(where, value, __ATOMIC_RELEASE)
    #define nlb_load(where) __atomic_load_n(where, __ATOMIC_ACQUIRE)
    #define nlb_swap(where, value) __atomic_exchange_n(where, value, __ATOMIC_SEQ_CST)
    """
    void nlb_store(uint64_t *where, uint64_t value) noexcept nogil
    uint64_t nlb_load(uint64_t *where) noexcept nogil
    uint32_t nlb_swap(uint32_t *where, uint32_t value) noexcept nogil

cdef enum:
    PARTS = 9
    PROXY = 18              # bytes of an IPv6 address and a port

cdef bint written = False       # something was put since the last journal_wake()


cdef uint64_t put(uint64_t at, const void *data, uint32_t size) noexcept nogil:
    """Copy into the ring at byte `at`, around its end."""
    cdef uint32_t offset = at % RING
    cdef uint32_t first = size if size < RING - offset else RING - offset
    if size == 0:
        return at
    memcpy(block.ring.data + offset, data, first)
    memcpy(block.ring.data, <const char *>data + first, size - first)
    return at + size


cdef bint journal_half_full() noexcept nogil:
    """Whether whoever writes many records at once should let the log writer come first."""
    return block.ring.head - nlb_load(&block.ring.tail) > RING // 2


cdef bint room(uint32_t size) noexcept nogil:
    if block.ring.head - nlb_load(&block.ring.tail) + size <= RING:
        return True
    block.ring.dropped += 1
    return False


cdef uint16_t length(const char *text) noexcept nogil:
    return 0 if text == NULL else <uint16_t>strlen(text)


cdef uint64_t realtime_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000


cdef uint16_t forwarder(const Session *s, unsigned char *into) noexcept nogil:
    """Address and port of the front balancer: how many bytes; 0 where there is none, or none with an address."""
    cdef const sockaddr_in *v4
    cdef const sockaddr_in6 *v6
    if s.forwarded == NULL:
        return 0
    v4 = <const sockaddr_in *>&s.forwarded.proxy
    v6 = <const sockaddr_in6 *>&s.forwarded.proxy
    if s.forwarded.proxy.ss_family == AF_INET:
        memcpy(into, &v4.sin_addr, 4)
        memcpy(into + 4, &v4.sin_port, 2)
        return 6
    if s.forwarded.proxy.ss_family == AF_INET6:
        memcpy(into, &v6.sin6_addr, 16)
        memcpy(into + 16, &v6.sin6_port, 2)
        return 18
    return 0


cdef void compose(const Session *s, Record *r, const void **parts, unsigned char *proxy) noexcept nogil:
    """Fill in the record of a connection, and where the texts behind it are; one of them is made in `proxy`.

    Long because it is a list: each field once, in the order of the structure.
    """
    cdef const char *cipher = NULL
    cdef const char *group = NULL
    cdef const char *name = NULL
    cdef const char *ruling = NULL
    cdef const unsigned char *alpn = NULL
    cdef const unsigned char *certificate = NULL
    cdef unsigned int alpn_size = 0
    cdef Cursor authority
    cdef const sockaddr_in *v4 = <const sockaddr_in *>&s.peer
    cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>&s.peer
    cdef uint64_t now = timers_clock_us()
    memset(r, 0, sizeof(Record))
    r.kind = ACCESS
    r.termination = s.termination
    r.verdict = s.verdict
    if s.peer.ss_family == AF_INET:
        r.family = 4
        r.port = ntohs(v4.sin_port)
        memcpy(r.address, &v4.sin_addr, 4)
    elif s.peer.ss_family == AF_INET6:
        r.family = 6
        r.port = ntohs(v6.sin6_port)
        memcpy(r.address, &v6.sin6_addr, 16)
    r.listener_row = s.listener.row
    r.group_row = s.listener.group_row
    r.server_row = s.server_row if s.tries else NO_ROW
    r.generation = s.listener.generation
    r.verify_error = s.verify_error
    r.verify_depth = s.verify_depth
    r.detail_errno = s.detail_errno
    r.id = s.id
    r.ended = realtime_us()
    r.received = s.received
    r.sent = s.sent
    r.handshake_us = <int64_t>(s.handshaken - s.accepted) if s.handshaken else -1
    r.connect_us = <int64_t>(s.connected - s.dialled) if s.connected else -1
    r.connection_us = <int64_t>(now - s.accepted)
    if s.client.ssl != NULL:
        if s.client.answered:
            r.tls_version = <uint16_t>ossl.SSL_version(s.client.ssl)
        if s.client.handshaken:
            cipher = ossl.SSL_CIPHER_get_name(ossl.SSL_get_current_cipher(s.client.ssl))
            group = ossl.SSL_get0_group_name(s.client.ssl)
            ossl.SSL_get0_alpn_selected(s.client.ssl, &alpn, &alpn_size)
            if ossl.SSL_session_reused(s.client.ssl):
                r.flags |= RESUMED
        name = ossl.SSL_get_servername(s.client.ssl, TLSEXT_NAMETYPE_host_name)
    if s.proven:
        r.flags |= PROVEN
    if s.reported:
        r.flags |= REPORTED
        if (s.verify_error == V_DENIED and s.identity != NULL and s.identity.ruling == V_DENIED
                and s.identity.ruled_by == s.listener.rules_number):   # else another generation has judged since
            ruling = s.identity.denied_by
    r.proxy_size = forwarder(s, proxy)
    r.cipher_size = length(cipher)
    r.group_size = length(group)
    r.name_size = length(name)
    r.alpn_size = <uint16_t>alpn_size
    verdict_about(s, &authority)
    r.authority_size = <uint16_t>(authority.end - authority.at)
    r.ruling_size = length(ruling)
    r.detail_size = length(s.detail)
    if s.identity != NULL:
        certificate = s.identity.der
        r.der_size = s.identity.size
        if r.der_size > LONGEST_CERTIFICATE:    # a stranger must not fill the log with what he made up
            certificate = s.identity.sha256
            r.der_size = sizeof(s.identity.sha256)
            r.flags |= DIGEST_ONLY
    r.size = (sizeof(Record) + r.cipher_size + r.group_size + r.name_size + r.alpn_size + r.proxy_size
              + r.authority_size + r.ruling_size + r.detail_size + r.der_size)
    parts[0], parts[1], parts[2], parts[3] = cipher, group, name, alpn
    parts[4], parts[5], parts[6], parts[7], parts[8] = proxy, authority.at, ruling, s.detail, certificate


cdef void sizes(const Record *r, uint32_t *of) noexcept nogil:
    """Those of the texts, in their order."""
    of[0], of[1], of[2], of[3] = r.cipher_size, r.group_size, r.name_size, r.alpn_size
    of[4], of[5], of[6], of[7], of[8] = r.proxy_size, r.authority_size, r.ruling_size, r.detail_size, r.der_size


cdef void journal_access(const Session *s) noexcept nogil:
    """Write the record of a connection that has just ended; its SSL object is still there."""
    global written
    cdef Record r
    cdef const void *parts[PARTS]
    cdef unsigned char proxy[PROXY]
    cdef uint32_t size[PARTS]
    cdef uint64_t at
    cdef int i
    if block.ring.muted:
        return
    compose(s, &r, parts, proxy)
    if not room(r.size):
        return
    sizes(&r, size)
    at = put(block.ring.head, &r, sizeof(r))
    for i in range(PARTS):
        at = put(at, parts[i], size[i])
    nlb_store(&block.ring.head, at)
    written = True


cdef uint32_t journal_connection(const Session *s, unsigned char *buffer) noexcept nogil:
    """The same of one that lives, into a buffer of LONGEST_RECORD bytes: how many it takes."""
    cdef Record r
    cdef const void *parts[PARTS]
    cdef unsigned char proxy[PROXY]
    cdef uint32_t size[PARTS]
    cdef uint32_t at = sizeof(Record)
    cdef int i
    compose(s, &r, parts, proxy)
    r.kind = CONNECTION
    r.termination = <uint8_t>s.state
    memcpy(buffer, &r, sizeof(r))
    sizes(&r, size)
    for i in range(PARTS):
        if size[i]:
            memcpy(buffer + at, parts[i], size[i])
            at += size[i]
    return at


cdef void journal_untold(
    uint16_t row, uint32_t generation, uint8_t word, uint64_t count, const unsigned char *sha256,
) noexcept nogil:
    """So many connections have ended with this word, at this listener and with this certificate (NULL: with none, or
    with various ones), and no record tells of them."""
    global written
    cdef Record r
    if block.ring.muted:
        return
    memset(&r, 0, sizeof(r))
    r.kind = UNTOLD
    r.termination = word
    r.listener_row = row
    r.generation = generation
    r.id = count
    r.ended = realtime_us()
    if sha256 != NULL:
        r.flags = DIGEST_ONLY
        r.der_size = 32
    r.size = sizeof(r) + r.der_size
    if not room(r.size):
        return
    nlb_store(&block.ring.head, put(put(block.ring.head, &r, sizeof(r)), sha256, r.der_size))
    written = True


cdef void journal_event(int level, const char *text) noexcept nogil:
    """A line for the event log; `level` as in Python's logging."""
    global written
    cdef Record r
    memset(&r, 0, sizeof(r))
    r.kind = EVENT
    r.termination = <uint8_t>level
    r.ended = realtime_us()
    r.detail_size = length(text)
    r.size = sizeof(r) + r.detail_size
    if not room(r.size):
        return
    nlb_store(&block.ring.head, put(put(block.ring.head, &r, sizeof(r)), text, r.detail_size))
    written = True


cdef void journal_wake(int eventfd) noexcept nogil:
    """Once a round: wake the log writer if it sleeps and there is something for it."""
    global written
    cdef uint64_t one = 1
    if written:
        written = nlb_swap(&block.ring.asleep, 0) and write(eventfd, &one, sizeof(one)) < 0


def verify_text(int error):
    """OpenSSL's words for a verification result, or ours."""
    return rules_reason(error, NULL).decode()


def record_layout():
    """``struct`` format and size in bytes of a record's head, for ``nlbcore.observe.access_log``."""
    return "<IBBBBB16sHHHHHIiiiQQQQqqqHHHHHHHHI", sizeof(Record)
