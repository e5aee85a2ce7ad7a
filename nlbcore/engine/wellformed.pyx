"""Whether the names of a client certificate are what names can be; a certificate with others is nobody's.

Two programs that read such a name may read two: the one stops at the NUL in it, the other does not; an address of three
bytes, a name with an empty label or with a space in it is compared with something somehow. No honest CA issues one.
What is asked: no NUL in the subject, in whichever string type, and a common name that is not empty; a subjectAltName
with at least one entry; DNS names, URIs and e-mail addresses of visible ASCII (RFC 5280, 4.2.1.6: IA5String), DNS names
without an empty label; addresses of 4 or 16 bytes.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp
from nlbcore.engine.der cimport (
    Cursor, SEQUENCE, der_alternative_names, der_authority, der_has_alternative_name, element,
)

cdef enum:
    OID = 0x06
    UNIVERSAL = 0x1C        # UniversalString, four bytes a letter
    BMP = 0x1E              # BMPString, two
    SET = 0x31
    EMAIL = 0x81            # of GeneralName
    DNS_NAME = 0x82
    URI = 0x86
    ADDRESS = 0x87
    DOT = 46
    STAR = 42

cdef unsigned char *COMMON_NAME = b"\x55\x04\x03"


cdef bint has_nul(int tag, const Cursor *text) noexcept nogil:
    """Whether one of the letters is NUL; half a letter is as bad."""
    cdef int width = 4 if tag == UNIVERSAL else 2 if tag == BMP else 1
    cdef const unsigned char *at = text.at
    cdef int i
    if (text.end - text.at) % width:
        return True
    while at < text.end:
        for i in range(width):
            if at[i]:
                break
        else:
            return True
        at += width
    return False


cdef bint subject_sound(Cursor name) noexcept nogil:
    cdef Cursor attributes, attribute, kind, value
    cdef int tag
    while name.at < name.end:
        if element(&name, &attributes) != SET:
            return False
        while attributes.at < attributes.end:
            if element(&attributes, &attribute) != SEQUENCE or element(&attribute, &kind) != OID:
                return False
            tag = element(&attribute, &value)
            if tag < 0 or has_nul(tag, &value):
                return False
            if kind.end - kind.at == 3 and memcmp(kind.at, COMMON_NAME, 3) == 0 and value.at == value.end:
                return False
    return True


cdef bint visible(const Cursor *text, unsigned char lowest) noexcept nogil:
    cdef const unsigned char *at = text.at
    while at < text.end:
        if at[0] < lowest or at[0] > 126:
            return False
        at += 1
    return text.at < text.end


cdef bint host_sound(const Cursor *name) noexcept nogil:
    """A dot at the end is no empty label."""
    cdef const unsigned char *at = name.at
    if not visible(name, 33):
        return False
    while at < name.end:
        if at[0] == DOT and (at == name.at or (at - 1)[0] == DOT):
            return False
        at += 1
    return True


cdef bint alternatives_sound(Cursor names, uint8_t *wildcard) noexcept nogil:
    cdef Cursor name
    cdef int tag
    if names.at == names.end:
        return False
    while names.at < names.end:
        tag = element(&names, &name)
        if tag < 0:
            return False
        if tag == DNS_NAME:
            if not host_sound(&name):
                return False
            if name.at[0] == STAR:
                wildcard[0] = True
        elif tag == URI and not visible(&name, 33):
            return False
        elif tag == EMAIL and not visible(&name, 32):   # a quoted local part may have spaces
            return False
        elif tag == ADDRESS and name.end - name.at not in (4, 16):
            return False
    return True


cdef bint names_sound(const unsigned char *der, uint32_t size, uint8_t *wildcard) noexcept nogil:
    """Whether all names of the certificate are; `wildcard` is set when a DNS name begins with a star."""
    cdef Cursor subject, inside, key, names
    if not der_authority(der, size, &subject, &key) or element(&subject, &inside) != SEQUENCE:
        return False
    if not subject_sound(inside):
        return False
    if not der_has_alternative_name(der, size):
        return True
    return der_alternative_names(der, size, &names) and alternatives_sound(names, wildcard)
