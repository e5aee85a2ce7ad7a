from nlbcore.engine.der cimport Cursor
from nlbcore.engine.openssl cimport BIO, X509
from nlbcore.engine.slab cimport Identity

cdef BIO *encoded(X509 *certificate, Cursor *whole) noexcept nogil
cdef Identity *identity_take(X509 *certificate) noexcept nogil
cdef bint identity_issued_by(Identity *identity, X509 *issuer) noexcept nogil
cdef void identity_drop(Identity *identity) noexcept nogil
cdef unsigned int identity_count() noexcept nogil
