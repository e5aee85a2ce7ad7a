"""Whether a client that was let in would be let in now, by the generation in force.

Asked of live connections when a reload has changed whom a listener trusts, and of a handshake that a reload has
overtaken.
What can be looked at directly is: the dates, the revocation lists, our own rules (``callbacks.judge_for``). Only when a
CA is trusted no more, or fewer intermediates are allowed, the chain is verified again, with what the client sent in its
handshake. A resumed session has sent none: it must do with the CAs of the listener, else it is refused; the client is
then asked for a full handshake, since the session id context has changed too.

Where `report` had let it in whatever it was, its chain has to be verified as if a CA had gone; a listener that only
reports now closes nobody, and one where a certificate is optional only who has shown a bad one.

What was found good is remembered with the certificate, so that a re-check costs one verification for each certificate
(146-205 us with one intermediate) and not one for each connection.
"""

from libc.stdint cimport uint32_t
from nlbcore.engine.callbacks cimport chain_free, judge_for, judge_undated
from nlbcore.engine.constraints cimport wildcard_excluded
from nlbcore.engine.openssl cimport (
    STACK_OF_X509, X509, X509_STORE_CTX, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CERT_CHAIN_TOO_LONG,
    X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_EXCLUDED_VIOLATION, X509_V_ERR_UNSPECIFIED, X509_V_OK, ossl, weak_key,
)
from nlbcore.engine.slab cimport Listener, Session

cdef enum:
    NO_CERTIFICATE_SHOWN = -1

cdef uint32_t epoch = 1


cdef void trust_epoch() noexcept nogil:
    """Trust has changed: what was found good before is asked again."""
    global epoch
    epoch += 1


cdef int verify_chain(const Session *s, const Listener *now) noexcept nogil:
    """Verify the client's certificate with the CAs of `now`: a verification result."""
    cdef X509_STORE_CTX *verification
    cdef STACK_OF_X509 *chain
    cdef int error = X509_V_ERR_UNSPECIFIED
    cdef int i
    cdef X509 *leaf = ossl.SSL_get_peer_certificate(s.client.ssl)
    if leaf == NULL or now.store == NULL:
        ossl.X509_free(leaf)
        return error
    verification = ossl.X509_STORE_CTX_new()
    if verification != NULL:
        if ossl.X509_STORE_CTX_init(
                verification, now.store, leaf, ossl.SSL_get_peer_cert_chain(s.client.ssl)) == 1:
            error = X509_V_OK
            if ossl.X509_verify_cert(verification) != 1:
                error = ossl.X509_STORE_CTX_get_error(verification)
            else:
                chain = ossl.X509_STORE_CTX_get1_chain(verification)
                if chain == NULL:
                    error = X509_V_ERR_UNSPECIFIED
                else:
                    if ossl.sk_X509_num(chain) > now.depth + 2:     # the client's certificate and the CA do not count
                        error = X509_V_ERR_CERT_CHAIN_TOO_LONG
                    for i in range(1, ossl.sk_X509_num(chain)):
                        if weak_key(ossl.sk_X509_value(chain, i)):
                            error = X509_V_ERR_CA_KEY_TOO_SMALL
                    if error == X509_V_OK and wildcard_excluded(s.identity, chain):
                        error = X509_V_ERR_EXCLUDED_VIOLATION
                    chain_free(chain)
        ossl.X509_STORE_CTX_free(verification)
    ossl.X509_free(leaf)
    ossl.ERR_clear_error()
    return error


cdef int trusted_now(Session *s) noexcept nogil:
    """A verification result of today for a client that has done its handshake under an earlier generation; -1 when it
    has shown no certificate and needs one now."""
    cdef Listener *now = s.listener.successor
    cdef int error
    if now == NULL or not now.verify or now.report:
        return X509_V_OK
    if s.identity == NULL or not s.proven:
        return X509_V_OK if now.optional else NO_CERTIFICATE_SHOWN
    if s.identity.judged_in == epoch and s.identity.judged_for == now:
        return X509_V_OK
    error = judge_for(now, s.identity)
    if error == X509_V_ERR_CERT_HAS_EXPIRED and now.keep_expired:
        error = judge_undated(now, s.identity)
    if error == X509_V_OK and s.listener.reverify:
        error = verify_chain(s, now)
    if error == X509_V_OK:
        s.identity.judged_in = epoch
        s.identity.judged_for = now
    return error
