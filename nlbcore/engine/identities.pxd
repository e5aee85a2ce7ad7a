from nlbcore.engine.openssl cimport X509
from nlbcore.engine.slab cimport Identity

cdef Identity *identity_take(X509 *certificate) noexcept nogil
cdef void identity_drop(Identity *identity) noexcept nogil
cdef unsigned int identity_count() noexcept nogil
