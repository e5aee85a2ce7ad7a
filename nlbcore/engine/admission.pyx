"""Whether a client that has done its handshake is let in: the word that refuses it, and how many it may be.

Asked once for each connection, after full and resumed handshakes alike and before a server is dialled.
"""

from libc.stdint cimport uint32_t
from nlbcore.engine.callbacks cimport judge_for
from nlbcore.engine.identities cimport identity_drop, identity_take
from nlbcore.engine.openssl cimport X509, X509_V_OK, ossl, word_of_verify
from nlbcore.engine.present cimport present_count, present_join
from nlbcore.engine.slab cimport Identity, Session
from nlbcore.termination cimport NO_CERTIFICATE, OPEN, OVERLOAD


cdef int client_word(Session *s) noexcept nogil:
    """The word that refuses the client; OPEN when it is welcome. Its key is proven, if it has a certificate."""
    cdef Identity *claimed
    cdef X509 *certificate = ossl.SSL_get_peer_certificate(s.client.ssl)
    if certificate == NULL:
        return OPEN if s.listener.optional else NO_CERTIFICATE
    claimed = s.identity
    s.identity = identity_take(certificate)     # that of this connection, whatever a callback has seen
    identity_drop(claimed)                      # last: what was learnt of it, its issuer's key, is kept
    ossl.X509_free(certificate)
    if s.identity == NULL:
        return OVERLOAD
    s.proven = True
    if s.verify_error == X509_V_OK:
        s.verify_error = <int>ossl.SSL_get_verify_result(s.client.ssl)
    if s.verify_error == X509_V_OK:
        s.verify_error = judge_for(s.listener, s.identity)
    return word_of_verify(s.verify_error)


cdef bint one_too_many(Session *s) noexcept nogil:
    """Count it among those with its certificate; whether they are more than its listener allows."""
    cdef uint32_t limit = s.listener.per_certificate
    present_join(s)
    return limit and s.counted and present_count(s.listener.row, s.identity) > limit
