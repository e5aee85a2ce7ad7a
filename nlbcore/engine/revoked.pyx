"""Who is revoked: a search in a table that ``tls/revocation`` has compiled of the revocation lists of a listener.

The table is one piece of memory without a pointer in it, so that all workers can map the same one. Numbers are in the
machine's byte order; offsets count from the start:

    0    8  magic, "NLB-CRLs"               then for each CA of the listener, 80 bytes:
    8    4  version, 3                      0    8  nextUpdate, Unix seconds
    12   4  how many CAs                    8    8  when a list of the CAs above it becomes overdue
    16   8  size of the whole               16   8  offset of its records
    24   8  0                               24   4  how many records
                                            28   4  1: a list is in force; 0: there is none
                                            32   8  offset of the subject, DER
                                            40   8  offset of the SubjectPublicKeyInfo, DER
                                            48   8  offset of the key identifier
                                            56  12  4 each: the sizes of these three
                                            68   4  by the lists above it - 1: revoked; 2: one is missing; 0: good
                                            72   4  the number of the CA, it or one above it, that this is about, or
                                                    the time when a list above becomes overdue
                                            76   4  0

A record is a serial number: 20 octets (RFC 5280, 4.1.2.2), big-endian, zeros in front. The records of a CA are sorted.

A CA is recognised by its name *and* its key, never by the name alone. The key is that of the certificate above the
client's in the chain that was verified. When that is not known - a resumed session, whose chain is gone - every CA of
that name counts that the client certificate's authority key identifier does not exclude, and the worst answer of them.

How a CA stands itself (`crl_scope = "chain"`) is the compiler's word too: ``tls/standing`` says why it can be.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset
from nlbcore.engine.der cimport (
    INTEGER, SEQUENCE, Cursor, Origin, der_authority, der_origin, der_same_name, element, enter, same_bytes,
)
from nlbcore.engine.openssl cimport (
    X509_V_ERR_CERT_REVOKED, X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_OK,
)

cdef enum:
    SERIAL = 20
    TABLE_VERSION = 3
    NOBODY = -1
    ABOVE_REVOKED = 1
    ABOVE_MISSING = 2

    BOOLEAN = 0x01
    OCTET_STRING = 0x04
    ENUMERATED = 0x0A
    UTC_TIME = 0x17
    GENERALIZED_TIME = 0x18
    REMOVE_FROM_CRL = 8     # reasonCode

    DAMAGED = -1            # what can be wrong with a list
    TOO_LONG = -2
    INDIRECT = -3
    CRITICAL = -4

cdef struct Header:
    char magic[8]
    uint32_t version
    uint32_t authorities
    uint64_t size
    uint64_t reserved

cdef struct Authority:
    int64_t next_update
    int64_t above_update
    uint64_t records
    uint32_t count
    uint32_t listed
    uint64_t subject
    uint64_t key
    uint64_t key_id
    uint32_t subject_size
    uint32_t key_size
    uint32_t key_id_size
    uint32_t above
    uint32_t about
    uint32_t reserved

# OIDs below id-ce, with tag and length
cdef unsigned char *REASON_CODE = b"\x06\x03\x55\x1d\x15"
cdef unsigned char *HOLD_INSTRUCTION = b"\x06\x03\x55\x1d\x17"
cdef unsigned char *INVALIDITY_DATE = b"\x06\x03\x55\x1d\x18"
cdef unsigned char *CERTIFICATE_ISSUER = b"\x06\x03\x55\x1d\x1d"


# -- the search -------------------------------------------------------------------------------------------------------

cdef void authority_at(const unsigned char *table, uint32_t number, Authority *authority) noexcept nogil:
    memcpy(authority, table + sizeof(Header) + <size_t>number * sizeof(Authority), sizeof(Authority))


cdef void span(const unsigned char *table, uint64_t offset, uint32_t size, Cursor *cursor) noexcept nogil:
    cursor.at = table + offset
    cursor.end = cursor.at + size


cdef void subject_of(const unsigned char *table, int64_t number, Cursor *subject) noexcept nogil:
    """Of a CA, or nothing of NOBODY."""
    cdef Authority authority
    if number == NOBODY:
        return
    authority_at(table, <uint32_t>number, &authority)
    span(table, authority.subject, authority.subject_size, subject)


cdef bint normal(Cursor number, unsigned char *serial) noexcept nogil:
    """A serial number as a record; False when it is too long to be one, so that no list can have it."""
    cdef Py_ssize_t size
    while number.at < number.end and number.at[0] == 0:
        number.at += 1
    size = number.end - number.at
    if size > SERIAL:
        return False
    memset(serial, 0, SERIAL - size)
    memcpy(serial + SERIAL - size, number.at, size)
    return True


cdef bint recorded(const unsigned char *records, uint32_t count, const unsigned char *serial) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = count
    cdef uint32_t middle
    cdef int order
    while low < high:
        middle = low + (high - low) // 2
        order = memcmp(records + <size_t>middle * SERIAL, serial, SERIAL)
        if order == 0:
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return False


cdef bint concerns(
    const unsigned char *table, const Authority *authority, const Origin *origin, const Cursor *key,
) noexcept nogil:
    """Whether this CA has issued the certificate - or may have, when the issuer's key is not known."""
    cdef Cursor subject, field
    if key.at != NULL:
        span(table, authority.key, authority.key_size, &field)
        if not same_bytes(&field, key):
            return False
    elif authority.key_id_size and origin.key_id.at != NULL:
        span(table, authority.key_id, authority.key_id_size, &field)
        if not same_bytes(&field, &origin.key_id):
            return False
    span(table, authority.subject, authority.subject_size, &subject)
    return element(&subject, &field) == SEQUENCE and der_same_name(field, origin.issuer)


cdef int revoked_look(
    const unsigned char *table, const unsigned char *der, uint32_t size, const unsigned char *key, uint32_t key_size,
    int64_t now, bint overdue_accepted, Cursor *about,
) noexcept nogil:
    """The verification result for a client certificate: revoked, its CA's list missing or overdue, or 0.

    Args:
        table: a checked one.
        der: the certificate.
        key: the SubjectPublicKeyInfo of its verified issuer, or NULL when that is not known.
        now: Unix seconds.
        overdue_accepted: a list past its nextUpdate refuses only those that it has.
        about: gets the subject (DER) of the CA that the result is about; NULL where it is about the client certificate.
    """
    cdef Header header
    cdef Authority authority
    cdef Origin origin
    cdef Cursor issuer_key
    cdef unsigned char serial[SERIAL]
    cdef bint searchable
    cdef bint known = False
    cdef bint missing = False
    cdef bint overdue = False
    cdef int64_t missing_of = NOBODY
    cdef int64_t overdue_of = NOBODY
    cdef uint32_t i
    about.at = about.end = NULL
    if not der_origin(der, size, &origin):
        return X509_V_ERR_UNABLE_TO_GET_CRL
    memcpy(&header, table, sizeof(Header))
    issuer_key.at = key
    issuer_key.end = key + key_size if key != NULL else NULL
    searchable = normal(origin.serial, serial)
    for i in range(header.authorities):
        authority_at(table, i, &authority)
        if not concerns(table, &authority, &origin, &issuer_key):
            continue
        known = True
        if authority.above == ABOVE_REVOKED:
            subject_of(table, authority.about, about)
            return X509_V_ERR_CERT_REVOKED
        if not authority.listed:
            missing = True
        elif authority.above == ABOVE_MISSING:
            missing = True
            missing_of = authority.about
        if searchable and recorded(table + authority.records, authority.count, serial):
            return X509_V_ERR_CERT_REVOKED
        if now > authority.next_update:
            overdue = True
        elif now > authority.above_update:
            overdue = True
            overdue_of = authority.about
    if missing or not known:
        subject_of(table, missing_of, about)
        return X509_V_ERR_UNABLE_TO_GET_CRL
    if not overdue or overdue_accepted:
        return X509_V_OK
    subject_of(table, overdue_of, about)
    return X509_V_ERR_CRL_HAS_EXPIRED


# -- the door of the table --------------------------------------------------------------------------------------------

@cython.final
cdef class Table:
    """A table in a buffer that cannot be written to, kept as long as this object. Every offset in it is checked here,
    once, so that no search can leave it. That records are sorted is the compiler's word.

    Args:
        buffer: a table, and nothing behind it: bytes, or a read-only mapping of a sealed memfd
    Raises:
        ValueError: it is none
    """

    def __cinit__(self, buffer):
        cdef const unsigned char[::1] view
        cdef size_t size
        self.owner = memoryview(buffer)     # keeps the memory where it is
        if not self.owner.readonly:
            raise ValueError("a revocation table in memory that can be written to")
        view = self.owner
        size = <size_t>view.shape[0]
        if size < sizeof(Header):
            raise ValueError("not a revocation table")
        self.at = &view[0]
        check(self.at, size)


cdef bint within(uint64_t offset, uint64_t length, uint64_t size) noexcept nogil:
    return offset <= size and length <= size - offset


cdef int check(const unsigned char *table, size_t size) except -1:
    cdef Header header
    cdef Authority authority
    cdef uint32_t i
    memcpy(&header, table, sizeof(Header))
    if memcmp(header.magic, b"NLB-CRLs", sizeof(header.magic)) != 0:
        raise ValueError("not a revocation table")
    if header.version != TABLE_VERSION:
        raise ValueError(f"a revocation table of version {header.version}, not {TABLE_VERSION}")
    if header.size != size or header.authorities > (size - sizeof(Header)) // sizeof(Authority):
        raise ValueError("a revocation table that is cut off")
    for i in range(header.authorities):
        authority_at(table, i, &authority)
        if not (within(authority.records, <uint64_t>authority.count * SERIAL, size)
                and within(authority.subject, authority.subject_size, size)
                and within(authority.key, authority.key_size, size)
                and within(authority.key_id, authority.key_id_size, size)
                and authority.about < header.authorities):
            raise ValueError(f"a damaged revocation table: entry {i} leads out of it")
    return 0


def authority(bytes der not None):
    """Subject and SubjectPublicKeyInfo of a CA's certificate, DER as it stands there: what a table knows it by.

    Raises:
        ValueError: it is no certificate
    """
    cdef Cursor subject, key
    if not der_authority(<const unsigned char *>der, <uint32_t>len(der), &subject, &key):
        raise ValueError("not a certificate")
    return subject.at[:subject.end - subject.at], key.at[:key.end - key.at]


# -- the records of a list --------------------------------------------------------------------------------------------

cdef int order(const void *a, const void *b) noexcept nogil:
    return memcmp(a, b, SERIAL)


cdef bint is_oid(const Cursor *found, const unsigned char *oid) noexcept nogil:
    return found.end - found.at == 5 and memcmp(found.at, oid, 5) == 0


cdef int extensions_of(Cursor fields) noexcept nogil:
    """Of an entry's extensions: its reason code (0: none), or what is wrong with them."""
    cdef Cursor field, value
    cdef Cursor oid
    cdef int tag
    cdef int reason = 0
    cdef bint critical
    while fields.at < fields.end:
        if element(&fields, &field) != SEQUENCE:
            return DAMAGED
        oid.at = field.at
        if element(&field, &value) < 0:
            return DAMAGED
        oid.end = field.at
        critical = False
        tag = element(&field, &value)
        if tag == BOOLEAN:
            critical = value.at < value.end and value.at[0] != 0
            tag = element(&field, &value)
        if tag != OCTET_STRING:
            return DAMAGED
        if is_oid(&oid, CERTIFICATE_ISSUER):
            return INDIRECT
        if is_oid(&oid, REASON_CODE):
            if element(&value, &value) != ENUMERATED or value.end - value.at != 1:
                return DAMAGED
            reason = value.at[0]
        elif critical and not is_oid(&oid, HOLD_INSTRUCTION) and not is_oid(&oid, INVALIDITY_DATE):
            return CRITICAL
    return reason


cdef int64_t walk(Cursor entries, unsigned char *out) noexcept nogil:
    """How many certificates are revoked (without those taken off the list), or what is wrong; records go to `out`."""
    cdef Cursor entry, serial, field
    cdef unsigned char record[SERIAL]
    cdef int64_t count = 0
    cdef int reason
    while entries.at < entries.end:
        if element(&entries, &entry) != SEQUENCE or element(&entry, &serial) != INTEGER or element(&entry, &field) < 0:
            return DAMAGED
        reason = 0
        if entry.at < entry.end:
            if element(&entry, &field) != SEQUENCE:
                return DAMAGED
            reason = extensions_of(field)
            if reason < 0:
                return reason
        if not normal(serial, record):
            return TOO_LONG
        if reason == REMOVE_FROM_CRL:
            continue
        if out != NULL:
            memcpy(out + count * SERIAL, record, SERIAL)
        count += 1
    return count


cdef bint find_entries(const unsigned char *der, uint32_t size, Cursor *entries) noexcept nogil:
    """Step to revokedCertificates of TBSCertList (RFC 5280, 5.1); an absent one is empty."""
    cdef Cursor here
    cdef int tag
    if not enter(der, size, &here):
        return False
    tag = element(&here, entries)
    if tag == INTEGER:                                          # version
        tag = element(&here, entries)
    if tag != SEQUENCE or element(&here, entries) != SEQUENCE:  # signature algorithm, issuer
        return False
    if element(&here, entries) not in (UTC_TIME, GENERALIZED_TIME):
        return False
    tag = element(&here, entries)
    if tag in (UTC_TIME, GENERALIZED_TIME):                     # nextUpdate
        tag = element(&here, entries)
    if tag != SEQUENCE:
        entries.at = entries.end = NULL
    return True


def collect(bytes der not None):
    """The records of a revocation list: the serial numbers that it revokes, sorted.

    Here and not in Python, because a list may have a million of them: a seventh of the time, and no object for each.

    Args:
        der: the list; its signature is the caller's business.
    Raises:
        ValueError: what is wrong with it
    """
    cdef Cursor entries
    cdef int64_t count
    cdef bytes records
    cdef unsigned char *out
    if len(der) > 0xFFFFFFFF or not find_entries(<const unsigned char *>der, <uint32_t>len(der), &entries):
        raise ValueError("its entries are damaged")
    with nogil:
        count = walk(entries, NULL)
    if count == TOO_LONG:
        raise ValueError("it has a serial number of more than 20 octets (RFC 5280, 4.1.2.2)")
    if count == INDIRECT:
        raise ValueError("it is an indirect list: an entry names another issuer")
    if count == CRITICAL:
        raise ValueError("an entry has a critical extension that is not known")
    if count < 0:
        raise ValueError("its entries are damaged")
    records = PyBytes_FromStringAndSize(NULL, count * SERIAL)
    out = <unsigned char *>PyBytes_AS_STRING(records)
    with nogil:
        walk(entries, out)
        qsort(out, <size_t>count, SERIAL, order)
    return records
