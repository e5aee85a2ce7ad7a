"""A wildcard name of a client against the names that a CA above it must not vouch for.

OpenSSL compares `*.example.com` as it stands with an excluded `secret.example.com`, and finds nothing wrong; but the
certificate would be good for that name too (Go had the same, CVE-2025-61727). RFC 5280 knows no wildcards, so this is
ours: a wildcard is excluded when one of the names that it stands for is. It stands for one label (RFC 6125, 6.4.3).
"""

from nlbcore.engine.der cimport Cursor, SEQUENCE, der_alternative_names, der_excluded_names, element
from nlbcore.engine.identities cimport encoded
from nlbcore.engine.openssl cimport BIO, STACK_OF_X509, ossl
from nlbcore.engine.slab cimport Identity

cdef enum:
    DNS_NAME = 0x82         # [2] of GeneralName
    DOT = 46
    STAR = 42


cdef unsigned char lower(unsigned char letter) noexcept nogil:
    return letter + 32 if 65 <= letter <= 90 else letter


cdef bint stands_for(const Cursor *wildcard, const Cursor *name) noexcept nogil:
    """Whether `wildcard`, "*." and more, stands for `name`."""
    cdef size_t rest = wildcard.end - wildcard.at - 1       # from the dot on
    cdef size_t i
    cdef const unsigned char *at
    if <size_t>(name.end - name.at) <= rest:
        return False
    for i in range(rest):
        if lower((name.end - 1 - i)[0]) != lower((wildcard.end - 1 - i)[0]):
            return False
    at = name.at
    while at < name.end - rest:
        if at[0] == DOT:
            return False
        at += 1
    return True


cdef bint excluded(const Identity *identity, const unsigned char *der, unsigned int size) noexcept nogil:
    """Whether the CA certificate in `der` excludes a name that a wildcard of the client stands for."""
    cdef Cursor subtrees, subtree, base, names, name
    cdef int tag
    if not der_excluded_names(der, size, &subtrees):
        return False
    while element(&subtrees, &subtree) == SEQUENCE:
        if element(&subtree, &base) != DNS_NAME or not der_alternative_names(identity.der, identity.size, &names):
            continue
        tag = element(&names, &name)
        while tag >= 0:
            if (tag == DNS_NAME and name.end - name.at > 2 and name.at[0] == STAR and name.at[1] == DOT
                    and stands_for(&name, &base)):
                return True
            tag = element(&names, &name)
    return False


cdef bint wildcard_excluded(const Identity *identity, STACK_OF_X509 *chain) noexcept nogil:
    """Whether a certificate above the client's, in its verified chain, excludes a name that one of its wildcards stands
    for. Without memory to look: yes."""
    cdef Cursor whole
    cdef BIO *bio
    cdef bint found
    cdef int i
    if not identity.wildcard:
        return False
    for i in range(1, ossl.sk_X509_num(chain)):
        bio = encoded(ossl.sk_X509_value(chain, i), &whole)
        if bio == NULL:
            return True
        found = excluded(identity, whole.at, <unsigned int>(whole.end - whole.at))
        ossl.BIO_free(bio)
        if found:
            return True
    return False
