# The names in a certificate, in the form that identity rules compare; see names.pyx.
from libc.stdint cimport uint32_t
from nlbcore.engine.der cimport Cursor

cdef enum Kind:             # of a name, and of a rule; the numbers stand in compiled tables (tls/rules.py)
    CN
    O
    OU
    DNS
    URI
    EMAIL
    IP4
    IP6
    SERIAL
    CERTIFICATE
    KEY
    KINDS
    IN_SUBJECT = 1 << CN | 1 << O | 1 << OU
    IN_ALTERNATIVE = 1 << DNS | 1 << URI | 1 << EMAIL | 1 << IP4 | 1 << IP6

cdef enum:
    LONGEST_NAME = 2048     # bytes; a longer one is not read (a SPIFFE ID has 2048 at most)
    UNREADABLE = -1
    NO_NAME = -2            # there is none left

    LABEL = 1               # what separators become: names have no control characters
    AT = 2
    SEGMENT = 3
    QUERY = 4
    FRAGMENT = 5
    PORT = 6

cdef struct Parts:          # of a certificate
    Cursor serial
    Cursor subject
    Cursor key              # SubjectPublicKeyInfo, its tag and length included
    Cursor names            # of subjectAltName; NULL: it has none
    bint damaged            # subjectAltName is there and cannot be read, or is there twice

cdef bint names_parts(const unsigned char *der, uint32_t size, Parts *parts) noexcept nogil
cdef int names_attribute(Cursor *subject, Kind *kind, unsigned char *name) noexcept nogil
cdef int names_alternative(Cursor *names, Kind *kind, unsigned char *name) noexcept nogil
