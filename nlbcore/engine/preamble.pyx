"""The PROXY header of a front balancer: a stage before all others that takes itself out when the header is whole.

A peer whose address is in the listener's list must send a header; of anybody else none is looked for. Bytes are peeked
at, parsed, and only those of the header are taken from the socket: what follows - the ClientHello may come in the same
segment - is there for the next stage as if nothing had been before it. The memory is one parser for a connection that
waits for its header, whatever its length, and the addresses for one that has had it.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from nlbcore.engine.buf cimport SCRATCH, ciphertext
from nlbcore.engine.linux.socket cimport (
    AF_INET, AF_INET6, AF_UNIX, MSG_PEEK, htons, ipv4_mapped, recv, sockaddr_in, sockaddr_in6, sockaddr_storage,
)
from nlbcore.engine.linux.unistd cimport EAGAIN, EINTR, errno
from nlbcore.engine.slab cimport Forwarded, Session
from nlbcore.engine.transport cimport IO_AGAIN, IO_END, IO_ERROR
from nlbcore.proxy_protocol cimport (
    PROXY_DONE, PROXY_FAILED, PROXY_INET, PROXY_INET6, PROXY_UNKNOWN, ProxyEnds, ProxyParser, proxy_fault, proxy_feed,
)


cdef bint within(const unsigned char *address, const unsigned char *network, int bits) noexcept nogil:
    cdef int whole = bits // 8
    if memcmp(address, network, whole) != 0:
        return False
    return bits % 8 == 0 or (address[whole] ^ network[whole]) >> (8 - bits % 8) == 0


cdef bint preamble_due(const Session *s) noexcept nogil:
    """Whether the peer is one that sends a header. An entry of the list: family (4, 6, 0 for UNIX sockets), bits of the
    prefix, 16 bytes of address."""
    cdef const sockaddr_in *v4 = <const sockaddr_in *>&s.peer
    cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>&s.peer
    cdef const unsigned char *address = NULL
    cdef const unsigned char *entry
    cdef unsigned char family = 0
    cdef uint32_t i
    if s.peer.ss_family == AF_INET:
        family = 4
        address = <const unsigned char *>&v4.sin_addr
    elif s.peer.ss_family == AF_INET6:
        family = 6
        address = <const unsigned char *>&v6.sin6_addr
        if ipv4_mapped(address):
            family = 4
            address += 12
    for i in range(s.listener.fronts):
        entry = s.listener.front_list + i * FRONT
        if entry[0] == family and (family == 0 or within(address, entry + 2, entry[1])):
            return True
    return False


cdef int preamble_begin(Session *s) noexcept nogil:
    """Wait for the header: 0, or -1 without memory."""
    s.preamble = <ProxyParser *>calloc(1, sizeof(ProxyParser))
    return 0 if s.preamble != NULL else -1


cdef void preamble_free(Session *s) noexcept nogil:
    free(s.preamble)
    free(s.forwarded)
    s.preamble = NULL
    s.forwarded = NULL


cdef int believe(Session *s, const ProxyEnds *ends) noexcept nogil:
    """The client is whom the header names; the kernel's peer is kept as the proxy. 0, or -1 without memory."""
    cdef sockaddr_in *v4 = <sockaddr_in *>&s.peer
    cdef sockaddr_in6 *v6 = <sockaddr_in6 *>&s.peer
    s.forwarded = <Forwarded *>calloc(1, sizeof(Forwarded))
    if s.forwarded == NULL:
        return -1
    s.forwarded.proxy = s.peer
    s.forwarded.ends = ends[0]
    memset(&s.peer, 0, sizeof(sockaddr_storage))
    if ends.family == PROXY_INET:
        s.peer.ss_family = AF_INET
        v4.sin_port = htons(ends.source_port)
        memcpy(&v4.sin_addr, ends.source, 4)
    elif ends.family == PROXY_INET6:
        s.peer.ss_family = AF_INET6
        v6.sin6_port = htons(ends.source_port)
        memcpy(&v6.sin6_addr, ends.source, 16)
    else:
        s.peer.ss_family = AF_UNIX
    return 0


cdef int whole(Session *s) noexcept nogil:
    """The stage is over: the parser goes."""
    cdef int result = 0
    s.local = s.preamble.local
    if s.preamble.ends.family != PROXY_UNKNOWN:
        result = believe(s, &s.preamble.ends)
    free(s.preamble)
    s.preamble = NULL
    if result != 0:
        s.detail = b"no memory for the PROXY header"
        return IO_ERROR
    return 1


cdef int take(Session *s, size_t size) noexcept nogil:
    """Take from the socket what was peeked at and parsed."""
    cdef ssize_t n
    while size:
        n = recv(s.client.fd, ciphertext, size, 0)
        if n > 0:
            size -= <size_t>n
        elif n < 0 and errno == EINTR:
            continue
        else:
            s.detail_errno = errno if n < 0 else 0
            return -1
    return 0


cdef int preamble_read(Session *s) noexcept nogil:
    """Read on: 1 when the header is whole and taken, IO_AGAIN, IO_END when the peer left before its first byte,
    IO_ERROR when there is no good header; s.detail or s.detail_errno says why."""
    cdef ProxyParser *parser = s.preamble
    cdef bint begun = parser.have or parser.stage
    cdef ssize_t n
    cdef size_t used
    while True:
        n = recv(s.client.fd, ciphertext, SCRATCH, MSG_PEEK)
        if n < 0 and errno == EINTR:
            continue
        if n < 0 and errno == EAGAIN:
            s.client.readable = False
            return IO_AGAIN
        if n <= 0:
            if not begun:
                return IO_END
            s.detail = b"the peer left within its PROXY header"
            s.detail_errno = errno if n < 0 else 0
            return IO_ERROR
        used = proxy_feed(parser, ciphertext, <size_t>n)
        begun = True
        if parser.stage == PROXY_FAILED:
            s.detail = proxy_fault(parser)
            return IO_ERROR
        if take(s, used) != 0:
            return IO_ERROR
        if parser.stage == PROXY_DONE:
            return whole(s)
