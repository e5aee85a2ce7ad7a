from nlbcore.engine.openssl cimport STACK_OF_X509
from nlbcore.engine.slab cimport Identity

cdef bint wildcard_excluded(const Identity *identity, STACK_OF_X509 *chain) noexcept nogil
