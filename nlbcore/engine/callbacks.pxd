from libc.stdint cimport uint16_t
from nlbcore.engine.openssl cimport SSL_CTX
from nlbcore.engine.slab cimport Listener, Session

cdef Session *current

cdef SSL_CTX *name_context(const Listener *listener, const char *name) noexcept nogil
cdef int judge_identity(Session *s) noexcept nogil
cdef int name_put(Listener *listener, const char *name, uint16_t size, SSL_CTX *context) noexcept nogil
