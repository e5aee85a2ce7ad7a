"""Client certificates, interned: each distinct one is parsed once and held while a connection shows it.

Keyed by the SHA-256 of the whole certificate. What a connection needs of it later - the dates, the bytes for the log,
whether it is one that is never a client (a weak key or signature, a CA's or one for signing certificates, X.509 v1, no
name at all or one that is none) - is worked out when it is seen first, so that a resumed handshake and a re-check of
live connections cost a lookup. The key of its issuer is added when a listener with revocation lists verifies it: a
resumed session has no chain any more.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy
from nlbcore.engine.der cimport (
    Cursor, der_authority, der_has_alternative_name, der_is_authority, der_signs_certificates,
)
from nlbcore.engine.openssl cimport (
    BIO, X509, X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_INVALID_PURPOSE,
    X509_V_ERR_SUBJECT_NAME_EMPTY, X509_V_ERR_UNSUPPORTED_NAME_SYNTAX, ossl, sha256, unix_time, weak_key,
    weak_signature,
)
from nlbcore.engine.slab cimport Identity
from nlbcore.engine.wellformed cimport names_sound

cdef enum:
    BUCKETS = 16384         # a list each; the digest is the hash
    X509_VERSION_3 = 2

cdef Identity *buckets[BUCKETS]
cdef unsigned int interned = 0


cdef unsigned int identity_count() noexcept nogil:
    return interned


cdef Identity **bucket_of(const unsigned char *digest) noexcept nogil:
    return &buckets[(digest[0] | <unsigned int>digest[1] << 8) % BUCKETS]


cdef bint nameless(X509 *certificate, const Identity *identity) noexcept nogil:
    """Neither a subject nor alternative names: nobody's."""
    return (ossl.X509_NAME_entry_count(ossl.X509_get_subject_name(certificate)) == 0
            and not der_has_alternative_name(identity.der, identity.size))


cdef BIO *encoded(X509 *certificate, Cursor *whole) noexcept nogil:
    """A BIO to be freed that holds the certificate's DER, where `whole` points to; NULL without memory."""
    cdef char *der
    cdef long size
    cdef BIO *bio = ossl.BIO_new(ossl.BIO_s_mem())
    if bio == NULL:
        return NULL
    if ossl.i2d_X509_bio(bio, certificate) != 1:
        ossl.BIO_free(bio)
        return NULL
    size = ossl.BIO_get_mem_data(bio, &der)
    whole.at = <unsigned char *>der
    whole.end = whole.at + size
    return bio


cdef unsigned char *copied(const Cursor *bytes_of) noexcept nogil:
    cdef size_t size = bytes_of.end - bytes_of.at
    cdef unsigned char *copy = <unsigned char *>malloc(size)
    if copy != NULL:
        memcpy(copy, bytes_of.at, size)
    return copy


cdef Identity *identity_take(X509 *certificate) noexcept nogil:
    """The identity of `certificate` with one reference more, or NULL without memory."""
    global interned
    cdef unsigned char digest[64]
    cdef Identity *identity
    cdef Identity **bucket
    cdef BIO *bio
    cdef Cursor whole
    if ossl.X509_digest(certificate, sha256, digest, NULL) != 1:
        return NULL
    bucket = bucket_of(digest)
    identity = bucket[0]
    while identity != NULL:
        if memcmp(identity.sha256, digest, 32) == 0:
            identity.references += 1
            return identity
        identity = identity.next
    identity = <Identity *>calloc(1, sizeof(Identity))
    if identity == NULL:
        return NULL
    bio = encoded(certificate, &whole)
    if bio == NULL:
        free(identity)
        return NULL
    identity.der = copied(&whole)
    identity.size = <unsigned int>(whole.end - whole.at)
    ossl.BIO_free(bio)
    if identity.der == NULL:
        free(identity)
        return NULL
    memcpy(identity.sha256, digest, 32)
    identity.references = 1
    identity.not_before = unix_time(ossl.X509_getm_notBefore(certificate))
    identity.not_after = unix_time(ossl.X509_getm_notAfter(certificate))
    if weak_key(certificate) or weak_signature(certificate):
        identity.fault = X509_V_ERR_EE_KEY_TOO_SMALL
    elif (ossl.X509_get_version(certificate) < X509_VERSION_3 or der_is_authority(identity.der, identity.size)
            or der_signs_certificates(identity.der, identity.size)):
        identity.fault = X509_V_ERR_INVALID_PURPOSE
    elif nameless(certificate, identity):
        identity.fault = X509_V_ERR_SUBJECT_NAME_EMPTY
    elif not names_sound(identity.der, identity.size, &identity.wildcard):
        identity.fault = X509_V_ERR_UNSUPPORTED_NAME_SYNTAX
    identity.next = bucket[0]
    bucket[0] = identity
    interned += 1
    return identity


cdef bint identity_issued_by(Identity *identity, X509 *issuer) noexcept nogil:
    """Remember the key that has been found to sign the certificate; False without memory. It cannot be another one
    later: the signature is part of the certificate."""
    cdef Cursor whole, subject, key
    cdef BIO *bio
    if identity.issuer_key != NULL:
        return True
    bio = encoded(issuer, &whole)
    if bio == NULL:
        return False
    if der_authority(whole.at, <unsigned int>(whole.end - whole.at), &subject, &key):
        identity.issuer_key = copied(&key)
        identity.issuer_key_size = <unsigned int>(key.end - key.at)
    ossl.BIO_free(bio)
    return identity.issuer_key != NULL


cdef void identity_drop(Identity *identity) noexcept nogil:
    """Give a reference back; the last one frees the identity."""
    global interned
    cdef Identity **link
    if identity == NULL:
        return
    identity.references -= 1
    if identity.references:
        return
    link = bucket_of(identity.sha256)
    while link[0] != identity:
        link = &link[0].next
    link[0] = identity.next
    free(identity.der)
    free(identity.issuer_key)
    free(identity)
    interned -= 1
