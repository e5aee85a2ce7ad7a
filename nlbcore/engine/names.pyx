"""The names in a client certificate, brought into the one form in which identity rules compare them.

The form: separators - the dots of a host name, the at sign of an address, the slashes of a URI - become control
characters, and a name that had control characters of its own is not read at all. So a rule's wildcard has one thing to
keep to: it never covers a control character. What is equal by the books becomes the same bytes:

cn, o, ou   any of the string types of X.520 as UTF-8 (TeletexString read as Latin-1, as OpenSSL does); ASCII letters
            small, blanks at the ends dropped and several made one (caseIgnoreMatch as far as OpenSSL does it, RFC 5280,
            7.1)
dns         small letters, without a trailing dot; a wildcard is not expanded
uri         scheme and host small (RFC 5280, 7.4), everything behind as it is
email       the host small, the part before the at sign as it is (RFC 5280, 7.5)
ip          4 or 16 bytes; an IPv4 address mapped into IPv6 is the IPv4 address

A name that could be read in two ways is no name (UNREADABLE): a NUL or another control character in it, an invalid
encoding, an empty label, two at signs, a URI with "." or ".." as a segment or with an encoded dot, slash, backslash or
control character. The caller denies those where it has deny rules of their kind, and allows nobody by them.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy
from nlbcore.engine.der cimport INTEGER, SEQUENCE, Cursor, element, enter
from nlbcore.engine.linux.socket cimport ipv4_mapped

cdef enum:
    BOOLEAN = 0x01
    OCTET_STRING = 0x04
    OID = 0x06
    UTF8 = 0x0C
    NUMERIC = 0x12
    PRINTABLE = 0x13
    T61 = 0x14
    IA5 = 0x16
    VISIBLE = 0x1A
    UNIVERSAL = 0x1C
    BMP = 0x1E
    SET = 0x31
    SAN_EMAIL = 0x81        # GeneralName (RFC 5280, 4.2.1.6)
    SAN_DNS = 0x82
    SAN_URI = 0x86
    SAN_IP = 0x87
    VERSION = 0xA0
    EXTENSIONS = 0xA3

    LONGEST_HOST = 253

# with tag and length
cdef unsigned char *SUBJECT_ALTERNATIVE_NAME = b"\x06\x03\x55\x1d\x11"


# -- where they stand -------------------------------------------------------------------------------------------------

cdef bint names_parts(const unsigned char *der, uint32_t size, Parts *parts) noexcept nogil:
    """The parts of a certificate that rules look at; False when it is none."""
    cdef Cursor here, field
    cdef int tag, _i
    parts.names.at = parts.names.end = NULL
    parts.damaged = False
    if not enter(der, size, &here):
        return False
    tag = element(&here, &parts.serial)
    if tag == VERSION:
        tag = element(&here, &parts.serial)
    if tag != INTEGER:
        return False
    for _i in range(3):     # signature algorithm, issuer, validity
        if element(&here, &field) != SEQUENCE:
            return False
    if element(&here, &parts.subject) != SEQUENCE:
        return False
    parts.key.at = here.at
    if element(&here, &field) != SEQUENCE:
        return False
    parts.key.end = here.at
    while here.at < here.end:
        tag = element(&here, &field)
        if tag < 0:
            return False
        if tag == EXTENSIONS:
            find_names(field, parts)
    return True


cdef void find_names(Cursor extensions, Parts *parts) noexcept nogil:
    cdef Cursor extension, value
    cdef int tag
    if element(&extensions, &extensions) != SEQUENCE:
        parts.damaged = True
        return
    while extensions.at < extensions.end:
        if element(&extensions, &extension) != SEQUENCE:
            parts.damaged = True
            return
        if extension.end - extension.at < 5 or memcmp(extension.at, SUBJECT_ALTERNATIVE_NAME, 5) != 0:
            continue
        extension.at += 5
        tag = element(&extension, &value)
        if tag == BOOLEAN:                  # critical
            tag = element(&extension, &value)
        if tag != OCTET_STRING or element(&value, &value) != SEQUENCE or parts.names.at != NULL:
            parts.damaged = True
            return
        parts.names = value


cdef int names_attribute(Cursor *subject, Kind *kind, unsigned char *name) noexcept nogil:
    """The next CN, O or OU of a subject, however its RDNs are divided: its size, or UNREADABLE; NO_NAME when there is
    none left. `name` has room for LONGEST_NAME bytes. Where the subject cannot be read on, the kind is KINDS: any."""
    cdef Cursor rdn, pair, oid, value
    cdef int tag
    while subject.at < subject.end:
        if subject.at[0] == SET:
            if element(subject, &rdn) != SET or rdn.at == rdn.end:
                return broken(subject, kind)
            subject.at = rdn.at             # step inside: its pairs, then the next set
            continue
        if element(subject, &pair) != SEQUENCE or element(&pair, &oid) != OID:
            return broken(subject, kind)
        tag = element(&pair, &value)
        if tag < 0:
            return broken(subject, kind)
        if oid.end - oid.at != 3 or oid.at[0] != 0x55 or oid.at[1] != 0x04:     # id-at
            continue
        if oid.at[2] == 3:
            kind[0] = CN
        elif oid.at[2] == 10:
            kind[0] = O
        elif oid.at[2] == 11:
            kind[0] = OU
        else:
            continue
        return text(tag, value, name)
    return NO_NAME


cdef int broken(Cursor *rest, Kind *kind) noexcept nogil:
    """What is left cannot be told apart: it may be a name of any kind."""
    rest.at = rest.end
    kind[0] = KINDS
    return UNREADABLE


cdef int names_alternative(Cursor *names, Kind *kind, unsigned char *name) noexcept nogil:
    """The next alternative name that rules are about, likewise."""
    cdef Cursor value
    cdef int tag
    while names.at < names.end:
        tag = element(names, &value)
        if tag < 0:
            return broken(names, kind)
        if tag == SAN_DNS:
            kind[0] = DNS
            return host(value, name)
        if tag == SAN_EMAIL:
            kind[0] = EMAIL
            return address(value, name)
        if tag == SAN_URI:
            kind[0] = URI
            return uri(value, name)
        if tag == SAN_IP:
            return network_address(value, kind, name)
    return NO_NAME


# -- the form of each -------------------------------------------------------------------------------------------------

cdef inline unsigned char small(unsigned char letter) noexcept nogil:
    return letter + 32 if 65 <= letter <= 90 else letter


cdef int point(int tag, Cursor *here) noexcept nogil:
    """The next code point of a string; UNREADABLE for what is none."""
    cdef uint32_t value
    cdef int more
    cdef const unsigned char *p = here.at
    if tag == BMP or tag == UNIVERSAL:
        if here.end - p < (2 if tag == BMP else 4):
            return UNREADABLE
        value = <uint32_t>p[0] << 8 | p[1]
        here.at += 2
        if tag == UNIVERSAL:
            value = value << 16 | <uint32_t>p[2] << 8 | p[3]
            here.at += 2
    elif tag == UTF8 and p[0] >= 0x80:
        if p[0] < 0xC2 or p[0] > 0xF4:
            return UNREADABLE
        more = 1 if p[0] < 0xE0 else 2 if p[0] < 0xF0 else 3
        if here.end - p <= more:
            return UNREADABLE
        value = p[0] & (0x3F >> more)
        here.at += 1
        while more:
            if here.at[0] & 0xC0 != 0x80:
                return UNREADABLE
            value = value << 6 | here.at[0] & 0x3F
            here.at += 1
            more -= 1
        if value < 0x800 and p[0] >= 0xE0 or value < 0x10000 and p[0] >= 0xF0:     # longer than it need be
            return UNREADABLE
    else:
        value = p[0]
        here.at += 1
        if value >= 0x80 and tag != T61:
            return UNREADABLE
    if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF or value < 32 or 127 <= value < 160:
        return UNREADABLE
    return <int>value


cdef int text(int tag, Cursor here, unsigned char *name) noexcept nogil:
    """An attribute value of a subject."""
    cdef int size = 0
    cdef int value
    cdef bint blank = False
    if tag not in (UTF8, NUMERIC, PRINTABLE, T61, IA5, VISIBLE, UNIVERSAL, BMP):
        return UNREADABLE
    while here.at < here.end:
        value = point(tag, &here)
        if value < 0 or size > LONGEST_NAME - 5:
            return UNREADABLE
        if value == 32:
            blank = size > 0
            continue
        if blank:
            name[size] = 32
            size += 1
            blank = False
        size += put(name + size, value)
    return size


cdef int put(unsigned char *out, int value) noexcept nogil:
    """A code point in UTF-8, ASCII letters small: how many bytes it takes."""
    if value < 0x80:
        out[0] = small(<unsigned char>value)
        return 1
    if value < 0x800:
        out[0] = <unsigned char>(0xC0 | value >> 6)
        out[1] = <unsigned char>(0x80 | value & 0x3F)
        return 2
    if value < 0x10000:
        out[0] = <unsigned char>(0xE0 | value >> 12)
        out[1] = <unsigned char>(0x80 | value >> 6 & 0x3F)
        out[2] = <unsigned char>(0x80 | value & 0x3F)
        return 3
    out[0] = <unsigned char>(0xF0 | value >> 18)
    out[1] = <unsigned char>(0x80 | value >> 12 & 0x3F)
    out[2] = <unsigned char>(0x80 | value >> 6 & 0x3F)
    out[3] = <unsigned char>(0x80 | value & 0x3F)
    return 4


cdef bint printable(const Cursor *here) noexcept nogil:
    """Whether all its bytes are printable ASCII but the space, and not too many."""
    cdef const unsigned char *p = here.at
    if here.end - p > LONGEST_NAME:
        return False
    while p < here.end:
        if p[0] <= 32 or p[0] >= 127:
            return False
        p += 1
    return True


cdef int host(Cursor here, unsigned char *name) noexcept nogil:
    """A host name: labels, none of them empty; one trailing dot is dropped."""
    cdef int size = 0
    cdef bint begins = True
    if not printable(&here):
        return UNREADABLE
    if here.end - here.at > 1 and (here.end - 1)[0] == 46:
        here.end -= 1
    if here.at == here.end or here.end - here.at > LONGEST_HOST:
        return UNREADABLE
    while here.at < here.end:
        if here.at[0] == 46:
            if begins or here.at + 1 == here.end:
                return UNREADABLE
            name[size] = LABEL
            begins = True
        else:
            name[size] = small(here.at[0])
            begins = False
        size += 1
        here.at += 1
    return size


cdef int address(Cursor here, unsigned char *name) noexcept nogil:
    """local@host"""
    cdef const unsigned char *at = NULL
    cdef const unsigned char *p = here.at
    cdef int local, size
    if not printable(&here):
        return UNREADABLE
    while p < here.end:
        if p[0] == 64:
            if at != NULL:
                return UNREADABLE
            at = p
        p += 1
    if at == NULL or at == here.at:
        return UNREADABLE
    local = <int>(at - here.at)
    memcpy(name, here.at, local)
    name[local] = AT
    here.at = at + 1
    if here.at == here.end or (here.end - 1)[0] == 46:      # no trailing dot here (RFC 5321)
        return UNREADABLE
    size = host(here, name + local + 1)
    return UNREADABLE if size < 0 else local + 1 + size


cdef int uri(Cursor here, unsigned char *name) noexcept nogil:
    """scheme:[//host]path[?query][#fragment]"""
    cdef int size = 0
    cdef bint in_path = True
    if not printable(&here) or not unambiguous(here):
        return UNREADABLE
    while here.at < here.end and here.at[0] != 58:      # the scheme
        if not (97 <= small(here.at[0]) <= 122 or size and (48 <= here.at[0] <= 57 or here.at[0] in (43, 45, 46))):
            return UNREADABLE
        name[size] = small(here.at[0])
        size += 1
        here.at += 1
    if size == 0 or here.at == here.end:
        return UNREADABLE
    name[size] = 58
    size += 1
    here.at += 1
    if here.end - here.at >= 2 and here.at[0] == 47 and here.at[1] == 47:
        name[size] = name[size + 1] = SEGMENT
        size += 2
        here.at += 2
        while here.at < here.end and here.at[0] not in (47, 63, 35):
            if here.at[0] == 46:
                name[size] = LABEL
            elif here.at[0] == 64:
                name[size] = AT
            elif here.at[0] == 58:                      # before a port
                name[size] = PORT
            else:
                name[size] = small(here.at[0])
            size += 1
            here.at += 1
    while here.at < here.end:
        if in_path and here.at[0] == 47:
            name[size] = SEGMENT
        elif in_path and here.at[0] == 63:
            name[size] = QUERY
            in_path = False
        elif here.at[0] == 35:
            name[size] = FRAGMENT
            in_path = False
        else:
            name[size] = here.at[0]
        size += 1
        here.at += 1
    return size


cdef int hexadecimal(unsigned char digit) noexcept nogil:
    if 48 <= digit <= 57:
        return digit - 48
    digit = small(digit)
    return digit - 87 if 97 <= digit <= 102 else -1


cdef bint unambiguous(Cursor here) noexcept nogil:
    """Whether every reader takes the same path from a URI: no backslash, no segment "." or "..", and nothing of that in
    its encoded form."""
    cdef int value, dots
    cdef const unsigned char *p = here.at
    while p < here.end:
        if p[0] == 92:
            return False
        if p[0] == 37:
            if here.end - p < 3 or hexadecimal(p[1]) < 0 or hexadecimal(p[2]) < 0:
                return False
            value = hexadecimal(p[1]) * 16 + hexadecimal(p[2])
            if value < 32 or value in (46, 47, 92, 127):
                return False
        p += 1
    p = here.at
    while p < here.end:
        if p[0] == 47:
            dots = 0
            while p + 1 + dots < here.end and p[1 + dots] == 46:
                dots += 1
            if dots in (1, 2) and (p + 1 + dots == here.end or p[1 + dots] in (47, 63, 35)):
                return False
        p += 1
    return True


cdef int network_address(Cursor here, Kind *kind, unsigned char *name) noexcept nogil:
    cdef int size = <int>(here.end - here.at) if here.end - here.at <= 16 else 0
    kind[0] = IP6 if size == 16 else IP4
    if size == 16 and ipv4_mapped(here.at):
        kind[0] = IP4
        here.at += 12
        size = 4
    if size != 4 and size != 16:
        return UNREADABLE
    memcpy(name, here.at, size)
    return size
