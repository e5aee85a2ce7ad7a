"""The common name of a certificate's subject, as UTF-8: the one text that all who read it take for the same.

There is none where there are several, where it is longer than COMMON_NAME bytes, where it is no text in its own
encoding, or where it has control characters: a zero byte would end it for a reader written in C, and make another name
of it.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp
from nlbcore.engine.der cimport SEQUENCE, Cursor, der_authority, element

cdef enum:
    OID = 0x06
    SET = 0x31
    UTF8 = 0x0C             # the string types of a DirectoryString (RFC 5280, appendix A.1), and IA5 beside them
    PRINTABLE = 0x13
    TELETEX = 0x14          # read as Latin-1, as everybody does
    IA5 = 0x16
    UNIVERSAL = 0x1C
    BMP = 0x1E

cdef unsigned char *COMMON_NAME_OID = b"\x55\x04\x03"


cdef int wide(Cursor *text, int octets) noexcept nogil:
    """The next big-endian number; -1 when it does not fit."""
    cdef uint32_t letter = 0
    if text.end - text.at < octets:
        return -1
    while octets:
        letter = letter << 8 | text.at[0]
        text.at += 1
        octets -= 1
    return <int>letter if letter < 0x110000 else -1


cdef int utf8(Cursor *text) noexcept nogil:
    """The next character of well-formed UTF-8 (RFC 3629, 4); -1 for anything else."""
    cdef unsigned char lead = text.at[0]
    cdef int letter, more, least
    text.at += 1
    if lead < 0x80:
        return lead
    if 0xC2 <= lead < 0xE0:
        letter, more, least = lead & 0x1F, 1, 0x80
    elif 0xE0 <= lead < 0xF0:
        letter, more, least = lead & 0x0F, 2, 0x800
    elif 0xF0 <= lead < 0xF5:
        letter, more, least = lead & 0x07, 3, 0x10000
    else:
        return -1
    while more:
        if text.at == text.end or text.at[0] & 0xC0 != 0x80:
            return -1
        letter = letter << 6 | (text.at[0] & 0x3F)
        text.at += 1
        more -= 1
    return letter if letter >= least else -1


cdef int next_letter(Cursor *text, int tag) noexcept nogil:
    """The next character of a string of this type; -1 for what is none, or a control character."""
    cdef int letter
    if tag == BMP:
        letter = wide(text, 2)
    elif tag == UNIVERSAL:
        letter = wide(text, 4)
    elif tag == UTF8:
        letter = utf8(text)
    else:
        letter = wide(text, 1)
        if tag != TELETEX and letter > 0x7E:
            return -1
    if letter < 0x20 or 0x7F <= letter < 0xA0 or 0xD800 <= letter < 0xE000 or letter > 0x10FFFF:
        return -1
    return letter


cdef int put(char *into, int at, int letter) noexcept nogil:
    """As UTF-8: where it ends, -1 when there is no room."""
    if at + 4 > COMMON_NAME:
        return -1
    if letter < 0x80:
        into[at] = <char>letter
        return at + 1
    if letter < 0x800:
        into[at] = <char>(0xC0 | letter >> 6)
    elif letter < 0x10000:
        into[at] = <char>(0xE0 | letter >> 12)
        at += 1
        into[at] = <char>(0x80 | (letter >> 6 & 0x3F))
    else:
        into[at] = <char>(0xF0 | letter >> 18)
        into[at + 1] = <char>(0x80 | (letter >> 12 & 0x3F))
        at += 2
        into[at] = <char>(0x80 | (letter >> 6 & 0x3F))
    into[at + 1] = <char>(0x80 | (letter & 0x3F))
    return at + 2


cdef int written(Cursor value, int tag, char *into) noexcept nogil:
    """The whole string as UTF-8: its size, -1 for none."""
    cdef int at = 0
    cdef int letter
    if tag not in (UTF8, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP):
        return -1
    while value.at < value.end:
        letter = next_letter(&value, tag)
        if letter < 0:
            return -1
        at = put(into, at, letter)
        if at < 0:
            return -1
    return at


cdef int common_name(const unsigned char *der, uint32_t size, char *into) noexcept nogil:
    """Write the common name into COMMON_NAME bytes: its size, 0 when the subject has none that can be told."""
    cdef Cursor subject, key, names, pair, field
    cdef int found = 0
    cdef int tag
    if not der_authority(der, size, &subject, &key) or element(&subject, &subject) != SEQUENCE:
        return 0
    while subject.at < subject.end:
        if element(&subject, &names) != SET:
            return 0
        while names.at < names.end:
            if element(&names, &pair) != SEQUENCE or element(&pair, &field) != OID:
                return 0
            if field.end - field.at != 3 or memcmp(field.at, COMMON_NAME_OID, 3) != 0:
                continue
            if found:
                return 0
            tag = element(&pair, &field)
            found = written(field, tag, into) if tag >= 0 else -1
            if found <= 0:
                return 0
    return found
