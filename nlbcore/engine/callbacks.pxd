from libc.stdint cimport int64_t, uint16_t
from nlbcore.engine.der cimport Cursor
from nlbcore.engine.openssl cimport SSL_CTX, STACK_OF_X509
from nlbcore.engine.slab cimport Identity, Listener, Session

cdef Session *current

cdef SSL_CTX *name_context(const Listener *listener, const char *name, int64_t now) noexcept nogil
cdef int judge_for(const Listener *listener, Identity *identity) noexcept nogil
cdef int judge_undated(const Listener *listener, Identity *identity) noexcept nogil
cdef void verdict_about(const Session *s, Cursor *authority) noexcept nogil
cdef void chain_free(STACK_OF_X509 *chain) noexcept nogil
cdef int name_put(
    Listener *listener, const char *name, uint16_t size, SSL_CTX *context, int64_t since, int64_t until,
) noexcept nogil
