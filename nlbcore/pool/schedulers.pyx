"""Choosing a server without Python: smooth weighted round robin and round robin.

Smooth weighted round robin: at each choice every server is given its weight, the richest one is chosen and pays the
sum. Weights 5, 1, 1 give a a b a c a a, not a a a a a b c (the method is nginx's). Round robin is the same with equal
weights. O(servers) a choice: a few hundred nanoseconds for 400.

A server of weight 0, or one that the operator or a reload takes out, gets no new connection; one that fails its health
checks, or has been added by a reload and not yet been checked, gets none while another one is usable. When none is, all
get them (fail-open, as NLB): better a try than a certain refusal.
"""

import os
import socket

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from nlbcore.engine.counters cimport ORDER_READY, Order, SERVERS, SERVER_INITIAL, SERVER_UNHEALTHY, Verdict, shared
from nlbcore.engine.hooks cimport Route
from nlbcore.engine.linux.socket cimport (
    AF_INET, AF_UNIX, htons, sockaddr_in, sockaddr_in6, sockaddr_storage, sockaddr_un, socklen_t,
)


cdef enum:
    TRIED = 64              # what choose() takes


cdef socklen_t _fill(sockaddr_storage *storage, int family, address) except 0:
    """Write an address, as the socket module spells it, in the kernel's form; its size."""
    cdef sockaddr_in *v4 = <sockaddr_in *>storage
    cdef sockaddr_in6 *v6 = <sockaddr_in6 *>storage
    cdef sockaddr_un *local = <sockaddr_un *>storage
    cdef bytes raw
    storage.ss_family = <unsigned short>family
    if family == AF_UNIX:
        raw = os.fsencode(address)
        if len(raw) >= <Py_ssize_t>sizeof(local.sun_path):
            raise ValueError(f"socket path {address!r} is longer than {sizeof(local.sun_path) - 1} bytes")
        memcpy(local.sun_path, <const char *>raw, len(raw))
        return sizeof(sockaddr_un)
    raw = socket.inet_pton(family, address[0])
    if family == AF_INET:
        v4.sin_port = htons(address[1])
        memcpy(&v4.sin_addr, <const char *>raw, 4)
        return sizeof(sockaddr_in)
    v6.sin6_port = htons(address[1])
    v6.sin6_scope_id = address[3]
    memcpy(&v6.sin6_addr, <const char *>raw, 16)
    return sizeof(sockaddr_in6)


cdef bint _listed(uint16_t row, const uint16_t *tried, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if tried[i] == row:
            return True
    return False


cdef int64_t _weight(const Candidate *candidate, bint equal) noexcept nogil:
    """Its share now; 0: it is not asked."""
    cdef const Order *order = &shared.orders[candidate.row]
    cdef int64_t weight = order.weight_and_one - 1 if order.weight_and_one else candidate.weight
    if order.state != ORDER_READY:
        return 0
    return min(weight, 1) if equal else weight


cdef bint _usable(const Candidate *candidate) noexcept nogil:
    cdef const Verdict *verdict = &shared.verdicts[candidate.row]
    return verdict.state != SERVER_UNHEALTHY and not (verdict.state == SERVER_INITIAL and verdict.waits)


cdef bint _fails_open(const Ring *ring) noexcept nogil:
    """Whether not one server is usable, so that all are used."""
    cdef uint32_t i
    for i in range(ring.count):
        if _weight(&ring.candidates[i], True) and _usable(&ring.candidates[i]):
            return False
    return True


cdef int pick(void *group, const uint16_t *tried, int count, Route *route) noexcept nogil:
    """`route_t` of engine/hooks.pxd: the next server of `group` that is not among the tried ones."""
    cdef Ring *ring = <Ring *>group
    cdef Candidate *best = NULL
    cdef Candidate *candidate
    cdef int64_t total = 0
    cdef int64_t weight
    cdef bint all_of_them = _fails_open(ring)
    cdef uint32_t i
    for i in range(ring.count):
        candidate = &ring.candidates[i]
        weight = _weight(candidate, ring.equal)
        if weight == 0 or _listed(candidate.row, tried, count) or not (all_of_them or _usable(candidate)):
            continue
        candidate.current += weight
        total += weight
        if best == NULL or candidate.current > best.current:
            best = candidate
    if best == NULL:
        return -1
    best.current -= total
    route.row = best.row
    route.address = best.address
    route.size = best.size
    return 0


@cython.final
cdef class Group:
    """The servers of a group and whose turn it is.

    Args:
        servers: (row in the segment, weight 0-100, socket family, address as the socket module spells it) for each
        scheduler: "wrr" or "rr"

    Raises:
        ValueError: an address that the kernel could not take, or a row that the segment has not
    """

    def __cinit__(self, servers, scheduler):
        cdef Candidate *candidate
        servers = list(servers)
        self.ring.equal = scheduler != "wrr"
        self.ring.candidates = <Candidate *>calloc(max(1, len(servers)), sizeof(Candidate))
        if self.ring.candidates == NULL:
            raise MemoryError
        for row, weight, family, address in servers:
            if not 0 <= row < SERVERS:
                raise ValueError(f"the segment has {SERVERS} rows of servers, none of them is row {row}")
            candidate = &self.ring.candidates[self.ring.count]
            candidate.row = row
            candidate.weight = weight
            candidate.size = _fill(&candidate.address, family, address)
            self.ring.count += 1

    def __dealloc__(self):
        free(self.ring.candidates)

    @property
    def address(self):
        """The `group` pointer for the route function; valid while this object lives."""
        return <uintptr_t>&self.ring

    def choose(self, tried=()):
        """The row of the next server that is not among `tried`, or None when there is none."""
        cdef uint16_t rows[TRIED]
        cdef Route route
        cdef int count = 0
        for row in tried:
            if count == TRIED:
                raise ValueError(f"more than {TRIED} tried servers")
            rows[count] = row
            count += 1
        return route.row if pick(<void *>&self.ring, rows, count, &route) == 0 else None


def route_address():
    """Address of the `route_t` function that chooses from a :class:`Group`."""
    return <uintptr_t>pick
