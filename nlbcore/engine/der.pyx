"""The looks into a certificate's DER that the bindings have no function for: is it a CA's, has it alternative names,
who has issued it, under which number, with which key?

Walks the certificate (RFC 5280, 4.1) to one of its fields or extensions. The bytes are what OpenSSL has parsed and
re-encoded, but every length is checked all the same.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp

cdef enum:
    BOOLEAN = 0x01
    BIT_STRING = 0x03
    OCTET_STRING = 0x04
    OID = 0x06
    UTF8 = 0x0C
    PRINTABLE = 0x13
    IA5 = 0x16
    VISIBLE = 0x1A
    SET = 0x31
    KEY_IDENTIFIER = 0x80   # [0] of AuthorityKeyIdentifier
    EXCLUDED = 0xA1         # [1] of NameConstraints
    KEY_CERT_SIGN = 0x04    # bit 5 of KeyUsage
    VERSION = 0xA0          # [0] of TBSCertificate
    EXTENSIONS = 0xA3       # [3] of TBSCertificate

# OIDs below id-ce, with tag and length
cdef unsigned char *KEY_USAGE = b"\x06\x03\x55\x1d\x0f"
cdef unsigned char *SUBJECT_ALTERNATIVE_NAME = b"\x06\x03\x55\x1d\x11"
cdef unsigned char *BASIC_CONSTRAINTS = b"\x06\x03\x55\x1d\x13"
cdef unsigned char *NAME_CONSTRAINTS = b"\x06\x03\x55\x1d\x1e"
cdef unsigned char *AUTHORITY_KEY = b"\x06\x03\x55\x1d\x23"


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
        if octets == 0 or octets > 4 or outer.end - p < octets:
            return -1
        size = 0
        while octets:
            size = size << 8 | p[0]
            p += 1
            octets -= 1
    if <size_t>(outer.end - p) < size:
        return -1
    outer.at = p + size         # before the content: both may be the same cursor, to step inside
    content.at = p
    content.end = p + size
    return tag


cdef bint enter(const unsigned char *der, uint32_t size, Cursor *inside) noexcept nogil:
    """Step into the first sequence of the first sequence: TBSCertificate, or TBSCertList."""
    inside.at = der
    inside.end = der + size
    return element(inside, inside) == SEQUENCE and element(inside, inside) == SEQUENCE


cdef void der_signed(const unsigned char *der, uint32_t size, Cursor *signed_part) noexcept nogil:
    """What a certificate's signature is over: its TBSCertificate, tag and length included; all of one that cannot be
    read."""
    cdef Cursor here, field
    signed_part.at = here.at = der
    signed_part.end = here.end = der + size
    if element(&here, &here) != SEQUENCE:
        return
    field = here
    if element(&field, &field) == SEQUENCE:
        signed_part.at = here.at
        signed_part.end = field.end


cdef bint find(const unsigned char *der, uint32_t size, const unsigned char *oid, Cursor *extension) noexcept nogil:
    """Whether the certificate has an extension; what stands behind its OID is then in `extension`."""
    cdef Cursor here, field
    cdef int tag
    if not enter(der, size, &here):
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


cdef int tag_of_value(const unsigned char *der, uint32_t size, const unsigned char *oid, Cursor *value) noexcept nogil:
    """The tag of an extension's value, and its content in `value`; -1: the certificate has no such extension."""
    cdef Cursor extension
    cdef int tag
    if not find(der, size, oid, &extension):
        return -1
    tag = element(&extension, value)
    if tag == BOOLEAN:                          # critical
        tag = element(&extension, value)
    return element(value, value) if tag == OCTET_STRING else -1


cdef bint value_of(const unsigned char *der, uint32_t size, const unsigned char *oid, Cursor *value) noexcept nogil:
    """Whether the certificate has an extension whose value is a sequence; its content is then in `value`."""
    return tag_of_value(der, size, oid, value) == SEQUENCE


cdef bint der_is_authority(const unsigned char *der, uint32_t size) noexcept nogil:
    """Whether the certificate says that it is a CA: basicConstraints with cA TRUE."""
    cdef Cursor value, flag
    if not value_of(der, size, BASIC_CONSTRAINTS, &value):
        return False
    return element(&value, &flag) == BOOLEAN and flag.end > flag.at and flag.at[0] != 0


cdef bint der_signs_certificates(const unsigned char *der, uint32_t size) noexcept nogil:
    """Whether its key is one for signing certificates: keyCertSign in the key usage."""
    cdef Cursor bits
    if tag_of_value(der, size, KEY_USAGE, &bits) != BIT_STRING or bits.end - bits.at < 2:
        return False
    return (bits.at[1] & KEY_CERT_SIGN) != 0    # behind the number of unused bits


cdef bint der_alternative_names(const unsigned char *der, uint32_t size, Cursor *names) noexcept nogil:
    """Whether it has a subjectAltName that can be read; the names are then in `names`."""
    return value_of(der, size, SUBJECT_ALTERNATIVE_NAME, names)


cdef bint der_excluded_names(const unsigned char *der, uint32_t size, Cursor *subtrees) noexcept nogil:
    """Whether it has name constraints that exclude something; the GeneralSubtrees are then in `subtrees`."""
    cdef Cursor value
    cdef int tag
    if not value_of(der, size, NAME_CONSTRAINTS, &value):
        return False
    while True:
        tag = element(&value, subtrees)
        if tag < 0 or tag == EXCLUDED:
            return tag == EXCLUDED


cdef bint der_has_alternative_name(const unsigned char *der, uint32_t size) noexcept nogil:
    """Whether the certificate has a subjectAltName extension."""
    cdef Cursor extension
    return find(der, size, SUBJECT_ALTERNATIVE_NAME, &extension)


cdef bint der_origin(const unsigned char *der, uint32_t size, Origin *origin) noexcept nogil:
    """Who has issued the certificate, and as what; False when it cannot be read."""
    cdef Cursor here, field
    cdef int tag
    if not enter(der, size, &here):
        return False
    tag = element(&here, &origin.serial)
    if tag == VERSION:
        tag = element(&here, &origin.serial)
    if tag != INTEGER or element(&here, &field) != SEQUENCE or element(&here, &origin.issuer) != SEQUENCE:
        return False
    if not value_of(der, size, AUTHORITY_KEY, &field) or element(&field, &origin.key_id) != KEY_IDENTIFIER:
        origin.key_id.at = origin.key_id.end = NULL
    return True


cdef bint der_authority(const unsigned char *der, uint32_t size, Cursor *subject, Cursor *key) noexcept nogil:
    """Subject and SubjectPublicKeyInfo of a certificate, tags and lengths included; False when it cannot be read."""
    cdef Cursor here, field
    cdef int tag, _i
    if not enter(der, size, &here):
        return False
    tag = element(&here, &field)
    if tag == VERSION:
        tag = element(&here, &field)
    if tag != INTEGER:
        return False
    for _i in range(3):     # signature algorithm, issuer, validity
        if element(&here, &field) != SEQUENCE:
            return False
    subject.at = here.at
    if element(&here, &field) != SEQUENCE:
        return False
    subject.end = key.at = here.at
    if element(&here, &field) != SEQUENCE:
        return False
    key.end = here.at
    return True


cdef bint blank(unsigned char letter) noexcept nogil:
    return letter == 32 or 9 <= letter <= 13


cdef int next_letter(Cursor *text) noexcept nogil:
    """Of a text without blanks at its ends: the next letter, small, with one space for several; -1 at the end."""
    cdef unsigned char letter
    if text.at == text.end:
        return -1
    letter = text.at[0]
    text.at += 1
    if blank(letter):
        while text.at < text.end and blank(text.at[0]):
            text.at += 1
        return 32
    return letter + 32 if 65 <= letter <= 90 else letter


cdef void trim(Cursor *text) noexcept nogil:
    while text.at < text.end and blank(text.at[0]):
        text.at += 1
    while text.at < text.end and blank((text.end - 1)[0]):
        text.end -= 1


cdef bint same_bytes(const Cursor *a, const Cursor *b) noexcept nogil:
    return a.end - a.at == b.end - b.at and (a.at == a.end or memcmp(a.at, b.at, a.end - a.at) == 0)


cdef bint same_value(int tag_a, Cursor a, int tag_b, Cursor b) noexcept nogil:
    """Whether two attribute values are one; texts whose letters are bytes compare as `der_same_name` says."""
    cdef int letter
    if tag_a not in (UTF8, PRINTABLE, IA5, VISIBLE) or tag_b not in (UTF8, PRINTABLE, IA5, VISIBLE):
        return tag_a == tag_b and same_bytes(&a, &b)
    trim(&a)
    trim(&b)
    while True:
        letter = next_letter(&a)
        if letter != next_letter(&b):
            return False
        if letter < 0:
            return True


cdef bint der_same_name(Cursor a, Cursor b) noexcept nogil:
    """Whether two Names (what stands inside the outer sequence) are one, as OpenSSL compares them: whatever the string
    types, without case of ASCII letters, blanks at the ends dropped and others one space (RFC 5280, 7.1)."""
    cdef Cursor set_a, set_b, pair_a, pair_b, field_a, field_b
    cdef int tag_a, tag_b
    while a.at < a.end and b.at < b.end:
        if element(&a, &set_a) != SET or element(&b, &set_b) != SET:
            return False
        while set_a.at < set_a.end and set_b.at < set_b.end:
            if element(&set_a, &pair_a) != SEQUENCE or element(&set_b, &pair_b) != SEQUENCE:
                return False
            if element(&pair_a, &field_a) != OID or element(&pair_b, &field_b) != OID:
                return False
            if not same_bytes(&field_a, &field_b):
                return False
            tag_a = element(&pair_a, &field_a)
            tag_b = element(&pair_b, &field_b)
            if tag_a < 0 or tag_b < 0 or not same_value(tag_a, field_a, tag_b, field_b):
                return False
        if set_a.at < set_a.end or set_b.at < set_b.end:
            return False
    return a.at == a.end and b.at == b.end
