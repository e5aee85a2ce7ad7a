"""The looks into a certificate's DER that the bindings have no function for: is it a CA's, has it alternative names?

Walks the certificate (RFC 5280, 4.1) to one of its extensions. The bytes are what OpenSSL has parsed and re-encoded,
but every length is checked all the same.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp

cdef enum:
    BOOLEAN = 0x01
    OCTET_STRING = 0x04
    SEQUENCE = 0x30
    EXTENSIONS = 0xA3       # [3] of TBSCertificate

cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end

# OIDs below id-ce, with tag and length
cdef unsigned char *SUBJECT_ALTERNATIVE_NAME = b"\x06\x03\x55\x1d\x11"
cdef unsigned char *BASIC_CONSTRAINTS = b"\x06\x03\x55\x1d\x13"


cdef int element(Cursor *outer, Cursor *content) noexcept nogil:
    """Step over one element: its tag, and its content in `content`; -1 at the end or when it does not fit."""
    cdef const unsigned char *p = outer.at
    cdef int tag, octets
    cdef uint32_t size
    if outer.end - p < 2:
        return -1
    tag = p[0]
    size = p[1]
    p += 2
    if size & 0x80:
        octets = size & 0x7F
        if octets == 0 or octets > 3 or outer.end - p < octets:
            return -1
        size = 0
        while octets:
            size = size << 8 | p[0]
            p += 1
            octets -= 1
    if outer.end - p < <Py_ssize_t>size:
        return -1
    outer.at = p + size         # before the content: both may be the same cursor, to step inside
    content.at = p
    content.end = p + size
    return tag


cdef bint find(const unsigned char *der, uint32_t size, const unsigned char *oid, Cursor *extension) noexcept nogil:
    """Whether the certificate has an extension; what stands behind its OID is then in `extension`."""
    cdef Cursor here, field
    cdef int tag
    here.at = der
    here.end = der + size
    if element(&here, &here) != SEQUENCE or element(&here, &here) != SEQUENCE:
        return False
    while True:
        tag = element(&here, &field)
        if tag < 0:
            return False
        if tag == EXTENSIONS:
            break
    if element(&field, &field) != SEQUENCE:
        return False
    while element(&field, extension) == SEQUENCE:
        if extension.end - extension.at > 5 and memcmp(extension.at, oid, 5) == 0:
            extension.at += 5
            return True
    return False


cdef bint der_is_authority(const unsigned char *der, uint32_t size) noexcept nogil:
    """Whether the certificate says that it is a CA: basicConstraints with cA TRUE."""
    cdef Cursor extension, value, flag
    cdef int tag
    if not find(der, size, BASIC_CONSTRAINTS, &extension):
        return False
    tag = element(&extension, &value)
    if tag == BOOLEAN:                          # critical
        tag = element(&extension, &value)
    if tag != OCTET_STRING or element(&value, &value) != SEQUENCE:
        return False
    return element(&value, &flag) == BOOLEAN and flag.end > flag.at and flag.at[0] != 0


cdef bint der_has_alternative_name(const unsigned char *der, uint32_t size) noexcept nogil:
    """Whether the certificate has a subjectAltName extension."""
    cdef Cursor extension
    return find(der, size, SUBJECT_ALTERNATIVE_NAME, &extension)
