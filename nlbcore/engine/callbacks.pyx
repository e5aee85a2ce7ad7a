"""The C callbacks that OpenSSL calls during a handshake: verify, server name, ALPN. No Python, no GIL.

A callback finds its connection through `current`, which the session sets before each handshake step and which is NULL
while others are served in the middle of it (rounds.pyx); the bindings have no ex_data. Without a connection every
callback fails closed. Python installs them by address (``verify_address`` and so on) and no Python callback is ever
given to pyOpenSSL.

The order in OpenSSL (tested in tests/wire on TLS 1.2 and 1.3): a ticket is opened with the front context's keys and its
session id context compared; then the server-name callback runs, with or without a name, and already knows whether the
session is resumed; then certificate and ALPN are chosen from the context it has set; then the client's certificate is
verified - only in a full handshake. That is why the server-name callback judges the certificate of a resumed one.

In TLS 1.2 OpenSSL resumes a session under any server name and then reports the name of the *session*: harmless, since
a listener has one policy, but `strict_sni` could be got round, so with it no TLS 1.2 tickets are issued.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uintptr_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy
from nlbcore.engine.constraints cimport wildcard_excluded
from nlbcore.engine.der cimport Cursor
from nlbcore.engine.identities cimport identity_drop, identity_issued_by, identity_take
from nlbcore.engine.linux.clock cimport CLOCK_REALTIME, clock_gettime, timespec
from nlbcore.engine.openssl cimport (
    SSL, SSL_AD_BAD_CERTIFICATE, SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_REVOKED, SSL_AD_CERTIFICATE_UNKNOWN,
    SSL_AD_INTERNAL_ERROR, SSL_AD_UNKNOWN_CA, SSL_AD_UNRECOGNIZED_NAME, SSL_CTX, SSL_OP_NO_TICKET,
    SSL_TLSEXT_ERR_ALERT_FATAL, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    SSL_VERIFY_NONE, SSL_VERIFY_PEER, STACK_OF_X509, TLSEXT_NAMETYPE_host_name, X509, X509_NAME, X509_STORE_CTX,
    X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK, X509_V_ERR_CERT_HAS_EXPIRED,
    X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_REVOKED, X509_V_ERR_CRL_HAS_EXPIRED,
    X509_V_ERR_EXCLUDED_VIOLATION, X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_OK, ossl, weak_key, weak_signature,
)
from nlbcore.engine.revoked cimport revoked_look
from nlbcore.engine.rules cimport V_DENIED, V_NOT_ALLOWED, rules_judge
from nlbcore.engine.slab cimport Identity, Listener, ServerName, Session
from nlbcore.engine.tickets cimport tickets_wanted

cdef Session *current = NULL

cdef enum:
    NAME = 254
    LONGEST_SUBJECT = 1024  # bytes
    TLS1_3_VERSION = 0x0304


cdef bint anchor(X509_STORE_CTX *store, int depth) noexcept nogil:
    """Whether the certificate at `depth` is the last of its chain: trusted as it is, its own signature proves
    nothing."""
    cdef STACK_OF_X509 *chain = ossl.X509_STORE_CTX_get1_chain(store)
    cdef int count
    if chain == NULL:
        return False
    count = ossl.sk_X509_num(chain)
    chain_free(chain)
    return depth == count - 1


cdef void chain_free(STACK_OF_X509 *chain) noexcept nogil:
    cdef int i
    for i in range(ossl.sk_X509_num(chain)):
        ossl.X509_free(ossl.sk_X509_value(chain, i))
    ossl.sk_X509_free(chain)


cdef bint names_excluded(const Identity *identity, X509_STORE_CTX *store) noexcept nogil:
    """Whether a CA above the client must not vouch for one of its wildcard names."""
    cdef STACK_OF_X509 *chain = ossl.X509_STORE_CTX_get1_chain(store)
    cdef bint excluded
    if chain == NULL:
        return True
    excluded = wildcard_excluded(identity, chain)
    chain_free(chain)
    return excluded


cdef bint note_issuer(Identity *identity, X509_STORE_CTX *store) noexcept nogil:
    """Remember the key of the certificate above the client's, whose signature has just been verified with it; one that
    is trusted as it is has none above. False without memory."""
    cdef STACK_OF_X509 *chain
    cdef bint noted = True
    if identity.issuer_key != NULL:
        return True
    chain = ossl.X509_STORE_CTX_get1_chain(store)
    if chain == NULL:
        return False
    if ossl.sk_X509_num(chain) > 1:
        noted = identity_issued_by(identity, ossl.sk_X509_value(chain, 1))
    chain_free(chain)
    return noted


cdef int64_t today(const Listener *listener) noexcept nogil:
    """The time that certificates and lists are judged by, Unix seconds: now, unless another one is asked about."""
    cdef timespec now
    if listener.dated:
        return listener.today
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec


cdef int revocation(const Listener *listener, const Identity *identity, Cursor *about) noexcept nogil:
    """What the listener's revocation lists say now: a verification result, and about which CA."""
    about.at = about.end = NULL
    if listener.revocations == NULL:
        return X509_V_OK
    return revoked_look(listener.revocations, identity.der, identity.size, identity.issuer_key,
                        identity.issuer_key_size, today(listener), listener.overdue_accepted, about)


cdef const Listener *in_force(const Listener *listener) noexcept nogil:
    """Whose revocation lists and rules count: a reload may have overtaken the handshake."""
    if listener.successor != NULL and listener.successor.verify:
        return listener.successor
    return listener


cdef void note_authority(Session *s, X509 *certificate) noexcept nogil:
    """Remember the subject of a CA certificate that the verdict is about, unless it is very long: some of them are a
    stranger's."""
    cdef X509_NAME *subject = ossl.X509_get_subject_name(certificate)
    cdef unsigned char *at
    cdef int size = ossl.i2d_X509_NAME(subject, NULL)
    if not 0 < size <= LONGEST_SUBJECT:
        return
    s.authority = <unsigned char *>malloc(size)
    if s.authority != NULL:
        at = s.authority
        s.authority_size = <uint16_t>ossl.i2d_X509_NAME(subject, &at)


cdef void verdict_about(const Session *s, Cursor *authority) noexcept nogil:
    """The subject (DER) of the CA certificate that the verdict is about; NULL where it is the client's."""
    authority.at = authority.end = NULL
    if s.verify_error == X509_V_OK or s.identity == NULL:
        return
    if s.verify_depth:
        authority.at = s.authority
        authority.end = s.authority + s.authority_size
    elif revocation(in_force(s.listener), s.identity, authority) != s.verify_error:
        authority.at = authority.end = NULL     # it is no list's, or that has changed meanwhile
    if authority.end - authority.at > LONGEST_SUBJECT:
        authority.at = authority.end = NULL


cdef int verify(int ok, X509_STORE_CTX *store) noexcept nogil:
    """Keeps OpenSSL's decision, remembers the first error and whose certificate it was, adds our own rules.

    A listener that only reports lets the client in all the same. Nothing is looked at after the first error: what comes
    then - an issuer whose signature was not the one - has not been verified.
    """
    cdef Session *s = current
    cdef int depth, error
    cdef X509 *certificate = ossl.X509_STORE_CTX_get_current_cert(store)
    cdef Cursor unused
    if s == NULL:
        return 0
    if s.verify_error != X509_V_OK:     # decided: the session keeps the first error, also in its ticket
        ossl.X509_STORE_CTX_set_error(store, s.verify_error)
        return s.listener.report
    depth = ossl.X509_STORE_CTX_get_error_depth(store)
    if s.identity == NULL:
        s.identity = identity_take(ossl.X509_STORE_CTX_get0_cert(store))
        if s.identity == NULL:
            return 0
    error = X509_V_OK
    if not ok:
        error = ossl.X509_STORE_CTX_get_error(store)
    elif depth == 0:
        error = s.identity.fault
        if error == X509_V_OK and s.identity.wildcard and names_excluded(s.identity, store):
            error = X509_V_ERR_EXCLUDED_VIOLATION
        if error == X509_V_OK and in_force(s.listener).revocations != NULL:
            if note_issuer(s.identity, store):
                error = revocation(in_force(s.listener), s.identity, &unused)
            else:
                error = X509_V_ERR_UNABLE_TO_GET_CRL
        if error == X509_V_OK:
            error = rules_judge(in_force(s.listener), s.identity)
    elif weak_key(certificate):
        error = X509_V_ERR_CA_KEY_TOO_SMALL
    elif weak_signature(certificate) and not anchor(store, depth):
        error = X509_V_ERR_CA_MD_TOO_WEAK
    if error == X509_V_OK:
        return 1
    s.verify_error = error
    s.verify_depth = depth
    if depth and certificate != NULL:
        note_authority(s, certificate)
    ossl.X509_STORE_CTX_set_error(store, error)
    return s.listener.report


cdef int judge_undated(const Listener *listener, Identity *identity) noexcept nogil:
    """`judge_for` without what is the certificate's own: what the listener says of it now."""
    cdef Cursor unused
    cdef int error = revocation(listener, identity, &unused)
    return error if error != X509_V_OK else rules_judge(listener, identity)


cdef int judge_for(const Listener *listener, Identity *identity) noexcept nogil:
    """What may have changed since a certificate was verified: a verification result, 0 when it is still good.

    The one place that is asked after every handshake, full or resumed, and of live connections after a reload.
    """
    cdef int64_t now = today(listener)
    if identity.fault:
        return identity.fault
    if now < identity.not_before:
        return X509_V_ERR_CERT_NOT_YET_VALID
    if now > identity.not_after:
        return X509_V_ERR_CERT_HAS_EXPIRED
    return judge_undated(listener, identity)


cdef int resumed(Session *s, SSL *ssl) noexcept nogil:
    """Whose certificate the session has that is resumed, and whether it is still good; 0, or the alert that ends it."""
    cdef X509 *certificate = ossl.SSL_get_peer_certificate(ssl)
    if certificate == NULL:
        return 0 if s.listener.optional or s.listener.report else SSL_AD_BAD_CERTIFICATE
    s.identity = identity_take(certificate)
    ossl.X509_free(certificate)
    if s.identity == NULL:
        return SSL_AD_INTERNAL_ERROR
    s.verify_error = <int>ossl.SSL_get_verify_result(ssl)       # not good: only where it began was it let in
    if s.verify_error == X509_V_OK or s.verify_error in (V_NOT_ALLOWED, V_DENIED):      # by the rules of that time
        s.verify_error = judge_for(in_force(s.listener), s.identity)
    if s.verify_error == X509_V_OK or s.listener.report:
        return 0
    return alert_of(s.verify_error)


cdef int verify_mode(const Listener *listener) noexcept nogil:
    """What OpenSSL is to ask of the client."""
    if not listener.verify:
        return SSL_VERIFY_NONE
    if listener.optional or listener.report:
        return SSL_VERIFY_PEER
    return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT


cdef int alert_of(int error) noexcept nogil:
    """The alert that OpenSSL sends for such a verification result in a full handshake."""
    if error == X509_V_ERR_CERT_REVOKED:
        return SSL_AD_CERTIFICATE_REVOKED
    if error == X509_V_ERR_UNABLE_TO_GET_CRL:
        return SSL_AD_UNKNOWN_CA
    if error in (X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CRL_HAS_EXPIRED):
        return SSL_AD_CERTIFICATE_EXPIRED
    if error in (V_NOT_ALLOWED, V_DENIED):
        return SSL_AD_CERTIFICATE_UNKNOWN
    return SSL_AD_BAD_CERTIFICATE


cdef uint32_t name_hash(const char *name, uint16_t size) noexcept nogil:
    """FNV-1a, 32 bits."""
    cdef uint32_t value = 2166136261U
    cdef uint16_t i
    for i in range(size):
        value = (value ^ <unsigned char>name[i]) * 16777619U
    return value


cdef SSL_CTX *name_find(const Listener *listener, const char *name, uint16_t size, int64_t now) noexcept nogil:
    """What the name has at this time (Unix seconds)."""
    cdef uint32_t at
    cdef const ServerName *entry
    if listener.names == NULL:
        return NULL
    at = name_hash(name, size) & listener.names_mask
    while listener.names[at].context != NULL:
        entry = &listener.names[at]
        if entry.size == size and memcmp(entry.name, name, size) == 0 and entry.since <= now < entry.until:
            return entry.context
        at = (at + 1) & listener.names_mask
    return NULL


cdef int name_put(
    Listener *listener, const char *name, uint16_t size, SSL_CTX *context, int64_t since, int64_t until,
) noexcept nogil:
    """Enter a name (lower case) into the listener's table, which has room; 0, or -1 when the name is too long."""
    cdef uint32_t at = name_hash(name, size) & listener.names_mask
    if size >= NAME:
        return -1
    while listener.names[at].context != NULL:
        at = (at + 1) & listener.names_mask
    memcpy(listener.names[at].name, name, size)
    listener.names[at].size = size
    listener.names[at].since = since
    listener.names[at].until = until
    listener.names[at].context = context
    return 0


cdef SSL_CTX *name_context(const Listener *listener, const char *name, int64_t now) noexcept nogil:
    """The context of a server name: the exact one, else that of "*" in place of its first label; NULL for none.
    Names compare without case and without a trailing dot."""
    cdef char lower[NAME]
    cdef uint16_t size = 0
    cdef uint16_t dot = 0
    cdef SSL_CTX *found
    if name[0] in (0, 46):      # an empty label is no name
        return NULL
    while name[size] != 0:
        if size == NAME:
            return NULL
        lower[size] = name[size] + 32 if 65 <= name[size] <= 90 else name[size]
        if dot == 0 and lower[size] == 46:
            dot = size
        size += 1
    if size and lower[size - 1] == 46:
        size -= 1
    found = name_find(listener, lower, size, now)
    if found == NULL and 0 < dot < size:
        lower[dot - 1] = 42
        found = name_find(listener, lower + dot - 1, size - dot + 1, now)
    return found


cdef int server_name(SSL *ssl, int *alert, void *unused) noexcept nogil:
    """Sets the server's certificate, decides about tickets, and judges the certificate of a resumed session."""
    cdef Session *s = current
    cdef Listener *listener
    cdef const char *name
    cdef SSL_CTX *context
    cdef timespec now
    cdef bint reused
    cdef int refused
    if s == NULL:
        return SSL_TLSEXT_ERR_ALERT_FATAL
    identity_drop(s.identity)       # after a HelloRetryRequest this is the second ClientHello: nothing of the first
    s.identity = NULL               # one - a ticket that is not offered again - may be left
    s.verify_error = X509_V_OK
    listener = s.listener
    clock_gettime(CLOCK_REALTIME, &now)
    context = NULL
    name = ossl.SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    if name != NULL:
        context = name_context(listener, name, now.tv_sec)
        if context == NULL and listener.strict_sni:
            s.name_refused = True
            alert[0] = SSL_AD_UNRECOGNIZED_NAME
            return SSL_TLSEXT_ERR_ALERT_FATAL
    if context == NULL:
        context = name_find(listener, b"", 0, now.tv_sec)
    if context == NULL:
        context = listener.fallback
    reused = ossl.SSL_session_reused(ssl) == 1
    if reused and listener.verify:
        refused = resumed(s, ssl)
        if refused:
            alert[0] = refused
            return SSL_TLSEXT_ERR_ALERT_FATAL
    if ossl.SSL_set_SSL_CTX(ssl, context) == NULL:
        return SSL_TLSEXT_ERR_ALERT_FATAL
    ossl.SSL_set_verify(ssl, verify_mode(listener), verify)
    if (reused or not listener.tickets or (listener.strict_sni and ossl.SSL_version(ssl) < TLS1_3_VERSION)
            or not tickets_wanted(listener.row, &s.peer)):
        ossl.SSL_set_options(ssl, SSL_OP_NO_TICKET)
    return SSL_TLSEXT_ERR_OK


cdef int alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *offered, unsigned int size,
    void *unused,
) noexcept nogil:
    """The first of our protocols that the client offers (RFC 7301); none: no_application_protocol."""
    cdef Session *s = current
    cdef const Listener *listener
    cdef uint32_t ours = 0
    cdef unsigned int theirs
    if s == NULL:
        return SSL_TLSEXT_ERR_ALERT_FATAL
    listener = s.listener
    if listener.alpn_size == 0:
        return SSL_TLSEXT_ERR_NOACK
    while ours < listener.alpn_size:
        theirs = 0
        while theirs < size:
            if (offered[theirs] == listener.alpn[ours] and theirs + offered[theirs] < size
                    and memcmp(offered + theirs + 1, listener.alpn + ours + 1, offered[theirs]) == 0):
                out[0] = offered + theirs + 1
                out_size[0] = offered[theirs]
                return SSL_TLSEXT_ERR_OK
            theirs += offered[theirs] + 1
        ours += listener.alpn[ours] + 1
    s.alpn_refused = True
    return SSL_TLSEXT_ERR_ALERT_FATAL


def verify_address():
    """Address of the verify callback: ``int (*)(int, X509_STORE_CTX *)``."""
    return <uintptr_t>verify


def server_name_address():
    """Address of the server-name callback: ``int (*)(SSL *, int *, void *)``."""
    return <uintptr_t>server_name


def alpn_address():
    """Address of the ALPN callback, as ``SSL_CTX_set_alpn_select_cb`` takes it."""
    return <uintptr_t>alpn
