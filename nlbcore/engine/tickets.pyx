"""Who gets session tickets: clients that have some use for them.

The two tickets of a TLS 1.3 handshake are an eighth of what it costs, and many clients - command-line tools, programs
that start anew for each request, load generators - never come back with one. Whether to give any must be decided when
the ClientHello is read (OpenSSL asks nowhere else), so before the certificate is seen: what is known is the address.
After UNUSED full handshakes in a row from one address, which then has all the tickets it can want, only every AGAIN-th
gives more; the first ticket that comes back sets the count to the start. So a client that resumes notices nothing, one
that begins to resume waits a few connections, and behind one address (a network with address translation) one client
that resumes is enough for all.

A table of this worker with one entry for each hash of listener and address, IPv6 by its /64: two that meet in one entry
share it, which costs a handshake more at worst. It never grows.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from nlbcore.engine.linux.socket cimport AF_INET, AF_INET6, sockaddr_in, sockaddr_in6, sockaddr_storage

cdef enum:
    ENTRIES = 16384
    PREFIX = 8              # bytes of an IPv6 address that belong to one network

cdef uint8_t unused[ENTRIES]        # full handshakes since the last ticket that came back


cdef uint32_t entry(uint16_t row, const sockaddr_storage *peer) noexcept nogil:
    """FNV-1a over the listener's row and the address."""
    cdef const unsigned char *at = NULL
    cdef int size = 0
    cdef int i
    cdef uint32_t value = (2166136261U ^ row) * 16777619U
    if peer.ss_family == AF_INET:
        at = <const unsigned char *>&(<const sockaddr_in *>peer).sin_addr
        size = 4
    elif peer.ss_family == AF_INET6:
        at = <const unsigned char *>&(<const sockaddr_in6 *>peer).sin6_addr
        size = PREFIX
    for i in range(size):
        value = (value ^ at[i]) * 16777619U
    return (value ^ value >> 16) % ENTRIES


cdef bint tickets_wanted(uint16_t row, const sockaddr_storage *peer) noexcept nogil:
    """Whether a full handshake that begins now is to end with tickets."""
    cdef uint8_t count = unused[entry(row, peer)]
    return count < UNUSED or count == UNUSED + AGAIN - 1


cdef void tickets_settled(uint16_t row, const sockaddr_storage *peer, bint resumed) noexcept nogil:
    """A client has been let in, by a full handshake or by a ticket."""
    cdef uint8_t *count = &unused[entry(row, peer)]
    if resumed:
        count[0] = 0
    elif count[0] < UNUSED + AGAIN - 1:
        count[0] += 1
    else:
        count[0] = UNUSED
