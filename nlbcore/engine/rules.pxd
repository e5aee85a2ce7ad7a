cimport cython
from libc.stdint cimport uint32_t, uint64_t
from nlbcore.engine.slab cimport Identity, Listener

# Verification results of our own, beside OpenSSL's X509_V_ERR_*: they are far below 1000.
cdef enum:
    V_NOT_ALLOWED = 1001
    V_DENIED = 1002


# A compiled table of rules in somebody's buffer, checked; see rules.pyx.
@cython.final
cdef class Rules:
    cdef object owner
    cdef const unsigned char *at
    cdef readonly uint64_t number   # of its own, in this process

# What a table says of a certificate: the number of the first entry that matches, or NO_RULE.
cdef struct Ruling:
    int result              # a verification result
    uint32_t allowed
    uint32_t denied
    int unreadable          # denied for a name of this kind that cannot be read; -1: no

cdef enum:
    NO_RULE = 0xFFFFFFFF

cdef void rules_look(
    const unsigned char *table, const unsigned char *der, uint32_t size, const unsigned char *digest, Ruling *ruling,
) noexcept nogil
cdef int rules_judge(const Listener *listener, Identity *identity) noexcept nogil
cdef const char *rules_reason(int error, const Identity *identity) noexcept nogil
