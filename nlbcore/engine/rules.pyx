"""Identity rules: a look into a table that ``tls/rules`` has compiled of a listener's `allow` and `deny`.

The table is one piece of memory without a pointer in it, so that all workers can map the same one. Numbers are in the
machine's byte order; offsets count from the start, and those of structures are multiples of 8:

    0    8  magic, "NLB-RULE"               a set, at its offset:
    8    4  version, 1                      0    4  kinds of names that it has rules about, a bit each
    12   4  0                               4    4  slots - 1; slots are a power of two
    16   8  size of the whole               8    8  offset of the slots: 4 bytes each, entry number + 1; 0: empty
    24   8  offset of the set `allow`; 0:   16   8  offset of the entries, 40 bytes each
            everybody                       24   8  offset of the list of rules: 8 bytes each, the offset of its text
    32   8  offset of the set `deny`; 0:    32   4  how many entries
            nobody                          36   4  how many rules
                                            40      for each kind with text or addresses: a bit for each length that a
                                                    prefix has, then the same for suffixes

An entry is found by kind, place and key: the whole name, or what stands before the first wildcard, or what stands
behind the last one - the compiler takes the rarer of the two. Entries with the same key stand one behind the other. So
a name costs one look for itself and one for each *length* of a prefix and a suffix, however many rules there are.
Measured (a certificate with a CN, a DNS name and a URI; CPU time of one evaluation called from Python, medians of 15
interleaved runs of 3,000): 1.12 us with 1 rule, 1.20 with 10, 1.22 with 10,000. A handshake takes about 1,000.

A rule's pattern and a certificate's name are compared in the form of ``engine/names``.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memchr, memcmp, memcpy
from nlbcore.engine.der cimport Cursor
from nlbcore.engine.names cimport (
    CERTIFICATE, CN, EMAIL, IN_ALTERNATIVE, IN_SUBJECT, IP4, IP6, KEY, KINDS, Kind, LONGEST_NAME, NO_NAME, PORT, Parts,
    SERIAL, UNREADABLE, names_alternative, names_attribute, names_parts,
)
from nlbcore.engine.openssl cimport X509_V_OK, ossl
from nlbcore.engine.sha256 cimport sha256_of
from nlbcore.engine.slab cimport Identity, Listener

import hashlib
from collections import namedtuple

cdef enum:
    TABLE_VERSION = 1
    WHOLE = 0               # places of a key
    BEFORE = 1
    BEHIND = 2
    BITMAPS = 8             # kinds up to IP6
    BITMAP = 257            # bytes: a bit for each length from 0 to LONGEST_NAME
    STAR = 7                # in a pattern
    STARS = 8
    TEXT = 96               # bytes of a rule's text at most, as the log shows it, its zero included
    NORMAL_SERIAL = 20

cdef struct Header:
    char magic[8]
    uint32_t version
    uint32_t reserved
    uint64_t size
    uint64_t sets[2]        # allow, deny

cdef struct Set:
    uint32_t kinds
    uint32_t mask
    uint64_t slots
    uint64_t entries
    uint64_t texts
    uint32_t count
    uint32_t rules
    uint8_t lengths[BITMAPS][2][BITMAP]

cdef struct Entry:
    uint32_t hash
    uint8_t kind
    uint8_t place
    uint8_t more            # the next one has the same key
    uint8_t reserved
    uint32_t rule           # number in the list
    uint32_t key_size       # bytes; of a network: bits
    uint64_t key
    uint64_t pattern
    uint32_t pattern_size   # 0: the key is all
    uint32_t padding

cdef struct Look:           # one in progress
    const unsigned char *table
    const Set *sets[2]
    uint32_t first[2]       # the first entry that matches
    uint32_t allowed_cn     # of `allow`, by a CN: counts if there is one CN only
    uint32_t wanted         # kinds of both sets
    int unreadable          # the first kind with deny rules that has such a name; -1: none

Verdict = namedtuple("Verdict", "word, allowed, denied, unreadable")

NAMES = ("cn", "o", "ou", "dns", "uri", "email", "ip", "ip", "serial", "sha256", "spki-sha256")
cdef const char *UNREAD[KINDS]
UNREAD[<int>CN] = b"a cn that cannot be read, and deny has rules about cn"
UNREAD[1] = b"an o that cannot be read, and deny has rules about o"
UNREAD[2] = b"an ou that cannot be read, and deny has rules about ou"
UNREAD[3] = b"a dns name that cannot be read, and deny has rules about dns"
UNREAD[4] = b"a uri that cannot be read, and deny has rules about uri"
UNREAD[5] = b"an email that cannot be read, and deny has rules about email"
UNREAD[6] = b"an ip that cannot be read, and deny has rules about ip"
UNREAD[7] = UNREAD[6]
UNREAD[8] = b"a serial that cannot be read, and deny has rules about serial"
UNREAD[9] = b"a certificate that cannot be read, and there are deny rules"
UNREAD[10] = UNREAD[9]

cdef uint64_t made = 0


# -- one pattern, one name --------------------------------------------------------------------------------------------

cdef bint part_matches(const unsigned char *p, int size, const unsigned char *n, int length) noexcept nogil:
    """Whether a part of a name - a label, a segment - is covered by a part of a pattern; the last star that was passed
    takes one byte more whenever nothing else fits."""
    cdef int at = 0
    cdef int i = 0
    cdef int star = -1
    cdef int mark = 0
    if size == 1 and p[0] == STAR:
        return length > 0
    while i < length:
        if at < size and p[at] == STAR:
            star = at
            mark = i
            at += 1
        elif at < size and p[at] == n[i]:
            at += 1
            i += 1
        elif star >= 0:
            mark += 1
            i = mark
            at = star + 1
        else:
            return False
    while at < size and p[at] == STAR:
        at += 1
    return at == size


cdef int part_size(const unsigned char *at, int left) noexcept nogil:
    cdef int size = 0
    while size < left and at[size] > PORT:
        size += 1
    return size


cdef bint matches(const unsigned char *p, int size, const unsigned char *n, int length) noexcept nogil:
    """Part by part, the same separators between them. `STARS`, the first part of a pattern or its last one, stands for
    one or more parts with the separator that is beside it."""
    cdef int mine, theirs
    if p[0] == STARS:
        return length > size - 1 and memcmp(n + length - (size - 1), p + 1, size - 1) == 0
    while True:
        mine = part_size(p, size)
        theirs = part_size(n, length)
        if mine == 1 and p[0] == STARS:
            return all_parts(n, length, (p - 1)[0])
        if not part_matches(p, mine, n, theirs):
            return False
        if mine == size or theirs == length:
            return mine == size and theirs == length
        if p[mine] != n[theirs]:
            return False
        p += mine + 1
        size -= mine + 1
        n += theirs + 1
        length -= theirs + 1


cdef bint all_parts(const unsigned char *n, int length, unsigned char separator) noexcept nogil:
    """Whether all that is left is parts with this separator between them, none of them empty."""
    cdef int size
    while True:
        size = part_size(n, length)
        if size == 0:
            return False
        if size == length:
            return True
        if n[size] != separator:
            return False
        n += size + 1
        length -= size + 1


# -- the look ---------------------------------------------------------------------------------------------------------

cdef inline uint32_t begin_hash(int kind, int place) noexcept nogil:
    return hashed(hashed(2166136261U, <unsigned char>kind), <unsigned char>place)


cdef inline uint32_t hashed(uint32_t value, unsigned char byte) noexcept nogil:
    """FNV-1a, 32 bits."""
    return (value ^ byte) * 16777619U


cdef inline bint has_length(const Set *rules, int kind, int place, uint32_t length) noexcept nogil:
    return rules.lengths[kind][place - BEFORE][length // 8] >> length % 8 & 1


cdef uint32_t find(
    const unsigned char *table, const Set *rules, int kind, int place, uint32_t hash_, const unsigned char *key,
    uint32_t key_size, uint32_t key_bytes, const unsigned char *name, int size,
) noexcept nogil:
    """The lowest rule with this key whose pattern covers the name, or NO_RULE."""
    cdef const uint32_t *slots = <const uint32_t *>(table + rules.slots)
    cdef const Entry *entry
    cdef uint32_t at = hash_ & rules.mask
    cdef uint32_t best = NO_RULE
    while slots[at]:
        entry = <const Entry *>(table + rules.entries) + (slots[at] - 1)
        if (entry.hash == hash_ and entry.kind == kind and entry.place == place and entry.key_size == key_size
                and (key_bytes == 0 or memcmp(table + entry.key, key, key_bytes) == 0)):
            while True:
                if entry.rule < best and (entry.pattern_size == 0 or matches(
                        table + entry.pattern, <int>entry.pattern_size, name, size)):
                    best = entry.rule
                if not entry.more:
                    return best
                entry += 1
        at = (at + 1) & rules.mask
    return NO_RULE


cdef uint32_t look_up(
    const unsigned char *table, const Set *rules, int kind, const unsigned char *name, int size,
) noexcept nogil:
    """The lowest rule for a name, or NO_RULE."""
    cdef uint32_t before = begin_hash(kind, BEFORE)
    cdef uint32_t behind = begin_hash(kind, BEHIND)
    cdef uint32_t whole = begin_hash(kind, WHOLE)
    cdef uint32_t best = NO_RULE
    cdef int i
    if not rules.kinds >> kind & 1:
        return NO_RULE
    for i in range(size):
        whole = hashed(whole, name[i])
    best = find(table, rules, kind, WHOLE, whole, name, <uint32_t>size, <uint32_t>size, name, size)
    if kind >= IP4:
        return best
    for i in range(size + 1):
        if has_length(rules, kind, BEFORE, i):
            best = min(best, find(table, rules, kind, BEFORE, before, name, i, i, name, size))
        if has_length(rules, kind, BEHIND, i):
            best = min(best, find(table, rules, kind, BEHIND, behind, name + size - i, i, i, name, size))
        if i < size:
            before = hashed(before, name[i])
            behind = hashed(behind, name[size - 1 - i])
    return best


cdef uint32_t look_up_address(
    const unsigned char *table, const Set *rules, int kind, const unsigned char *address, int size,
) noexcept nogil:
    """The lowest network that the address is in, or NO_RULE."""
    cdef unsigned char masked[16]
    cdef uint32_t best = NO_RULE
    cdef uint32_t value
    cdef int bits, i
    if not rules.kinds >> kind & 1:
        return NO_RULE
    for bits in range(size * 8 + 1):
        if not has_length(rules, kind, BEFORE, bits):
            continue
        value = begin_hash(kind, BEFORE)
        for i in range(size):
            masked[i] = address[i] if bits >= 8 * i + 8 else 0 if bits <= 8 * i else (
                address[i] & <unsigned char>(0xFF << (8 * i + 8 - bits)))
            value = hashed(value, masked[i])
        best = min(best, find(table, rules, kind, BEFORE, value, masked, bits, size, NULL, 0))
    return best


cdef void take(Look *look, int kind, unsigned char *name, int size) noexcept nogil:
    """One name of the certificate, or UNREADABLE. Of an e-mail address the part before the at sign is compared without
    case by `deny`: most mail systems take it so, and a capital letter must not be a way round."""
    cdef uint32_t allowed = NO_RULE
    cdef uint32_t denied = NO_RULE
    cdef int i
    if size == UNREADABLE:
        if look.unreadable < 0 and look.sets[1] != NULL and look.sets[1].kinds >> kind & 1:
            look.unreadable = kind
        return
    if look.sets[0] != NULL:
        if kind == IP4 or kind == IP6:
            allowed = look_up_address(look.table, look.sets[0], kind, name, size)
        else:
            allowed = look_up(look.table, look.sets[0], kind, name, size)
        if kind == CN:
            look.allowed_cn = min(look.allowed_cn, allowed)
        else:
            look.first[0] = min(look.first[0], allowed)
    if look.sets[1] != NULL:
        if kind == EMAIL:
            for i in range(size):
                if 65 <= name[i] <= 90:
                    name[i] += 32
        if kind == IP4 or kind == IP6:
            denied = look_up_address(look.table, look.sets[1], kind, name, size)
        else:
            denied = look_up(look.table, look.sets[1], kind, name, size)
        look.first[1] = min(look.first[1], denied)


cdef void take_names(Look *look, Parts *parts) noexcept nogil:
    """Subject and alternative names. Several CNs are no identity: by none of them is anybody allowed."""
    cdef unsigned char name[LONGEST_NAME]
    cdef Kind kind = KINDS
    cdef int size, other
    cdef int cns = 0
    while look.wanted & IN_SUBJECT:
        size = names_attribute(&parts.subject, &kind, name)
        if size == NO_NAME:
            break
        cns += kind == CN or kind == KINDS
        if kind == KINDS:
            for other in range(3):
                take(look, other, name, UNREADABLE)
        else:
            take(look, kind, name, size)
    if cns == 1:
        look.first[0] = min(look.first[0], look.allowed_cn)
    if parts.damaged:
        for other in range(3, 8):
            take(look, other, name, UNREADABLE)
        return
    while look.wanted & IN_ALTERNATIVE:
        size = names_alternative(&parts.names, &kind, name)
        if size == NO_NAME:
            break
        if kind == KINDS:
            for other in range(3, 8):
                take(look, other, name, UNREADABLE)
        elif size == UNREADABLE and kind == IP4:
            take(look, IP4, name, UNREADABLE)
            take(look, IP6, name, UNREADABLE)
        else:
            take(look, kind, name, size)


cdef void take_serial(Look *look, Cursor serial) noexcept nogil:
    """Its octets without zeros in front; a negative one, or one of more than 20 octets, is none (RFC 5280, 4.1.2.2)."""
    cdef unsigned char number[NORMAL_SERIAL]
    cdef int size
    if serial.at == serial.end or serial.at[0] & 0x80:
        take(look, SERIAL, number, UNREADABLE)
        return
    while serial.at < serial.end and serial.at[0] == 0:
        serial.at += 1
    size = <int>(serial.end - serial.at) if serial.end - serial.at <= NORMAL_SERIAL else UNREADABLE
    if size > 0:
        memcpy(number, serial.at, size)
    take(look, SERIAL, number, size)


cdef const Set *set_of(const unsigned char *table, int number) noexcept nogil:
    cdef uint64_t offset = (<const Header *>table).sets[number]
    return <const Set *>(table + offset) if offset else NULL


cdef void rules_look(
    const unsigned char *table, const unsigned char *der, uint32_t size, const unsigned char *digest, Ruling *ruling,
) noexcept nogil:
    """What the rules of `table` say of a certificate.

    Args:
        table: a checked one
        der: the certificate
        digest: its SHA-256
    """
    cdef Look look
    cdef Parts parts
    cdef unsigned char key[32]
    cdef unsigned char own[32]
    cdef int i
    look.table = table
    look.wanted = 0
    for i in range(2):
        look.sets[i] = set_of(table, i)
        look.first[i] = NO_RULE
        if look.sets[i] != NULL:
            look.wanted |= look.sets[i].kinds
    look.allowed_cn = NO_RULE
    look.unreadable = -1
    memcpy(own, digest, 32)
    take(&look, CERTIFICATE, own, 32)
    if not names_parts(der, size, &parts):
        for i in range(<int>KINDS):
            take(&look, i, own, UNREADABLE)
    else:
        if look.wanted >> SERIAL & 1:
            take_serial(&look, parts.serial)
        if look.wanted >> KEY & 1:
            sha256_of(parts.key.at, <uint32_t>(parts.key.end - parts.key.at), key)
            take(&look, KEY, key, 32)
        take_names(&look, &parts)
    ruling.allowed, ruling.denied, ruling.unreadable = look.first[0], look.first[1], -1
    ruling.result = X509_V_OK
    if look.first[1] != NO_RULE:
        ruling.result = V_DENIED
    elif look.unreadable >= 0:
        ruling.result = V_DENIED
        ruling.unreadable = look.unreadable
    elif look.sets[0] != NULL and look.first[0] == NO_RULE:
        ruling.result = V_NOT_ALLOWED


# -- of a listener ----------------------------------------------------------------------------------------------------

cdef const char *text_of(const unsigned char *table, const Set *rules, uint32_t rule) noexcept nogil:
    """How the log shows a rule."""
    return <const char *>(table + (<const uint64_t *>(table + rules.texts))[rule])


cdef int rules_judge(const Listener *listener, Identity *identity) noexcept nogil:
    """What the listener's rules say of the client: a verification result. Evaluated once for a certificate and a table,
    and remembered with the certificate."""
    cdef Ruling ruling
    cdef const char *text
    cdef int size = 0
    if listener.rules == NULL:
        return X509_V_OK
    if identity.ruled_by == listener.rules_number:
        return identity.ruling
    rules_look(listener.rules, identity.der, identity.size, identity.sha256, &ruling)
    identity.ruled_by = listener.rules_number
    identity.ruling = ruling.result
    if ruling.result == V_DENIED:
        # A copy: the table may be gone before the connection that shows it.
        if ruling.unreadable < 0:
            text = text_of(listener.rules, set_of(listener.rules, 1), ruling.denied)
        else:
            text = UNREAD[ruling.unreadable]
        while text[size]:
            identity.denied_by[size] = text[size]
            size += 1
    identity.denied_by[size] = 0
    return ruling.result


cdef const char *rules_reason(int error, const Identity *identity) noexcept nogil:
    """What the log says beside the word for a verification result, ours or OpenSSL's."""
    if error == V_NOT_ALLOWED:
        return b"no entry of allow matches"
    if error == V_DENIED and identity == NULL:
        return b"an entry of deny matches"
    if error == V_DENIED:
        return identity.denied_by
    return ossl.X509_verify_cert_error_string(error)


# -- the door of the table --------------------------------------------------------------------------------------------

@cython.final
cdef class Rules:
    """A table in a buffer that cannot be written to, kept as long as this object. Every offset in it is checked here,
    once, so that no look can leave it.

    Args:
        buffer: a table, and nothing behind it: bytes, or a read-only mapping of a sealed memfd
    Raises:
        ValueError: it is none
    """

    def __cinit__(self, buffer):
        global made
        cdef const unsigned char[::1] view
        self.owner = memoryview(buffer)     # keeps the memory where it is
        if not self.owner.readonly:
            raise ValueError("a table of rules in memory that can be written to")
        view = self.owner
        if <size_t>view.shape[0] < sizeof(Header):
            raise ValueError("not a table of rules")
        self.at = &view[0]
        if <uintptr_t>self.at % 8:
            raise ValueError("a table of rules that is not aligned")
        check(self.at, view.shape[0])
        made += 1
        self.number = made

    def look(self, bytes der not None):
        """What the rules say of a certificate (DER).

        Returns:
            the word ("open", "not_allowed", "denied"), the numbers of the first entries of `allow` and `deny` that
            match (None: no entry does), and the kind of a name that cannot be read, if that is why it is denied
        """
        cdef Ruling ruling
        cdef bytes digest = hashlib.sha256(der).digest()
        rules_look(self.at, der, <uint32_t>len(der), digest, &ruling)
        return Verdict(
            "open" if ruling.result == X509_V_OK else "denied" if ruling.result == V_DENIED else "not_allowed",
            None if ruling.allowed == NO_RULE else ruling.allowed,
            None if ruling.denied == NO_RULE else ruling.denied,
            None if ruling.unreadable < 0 else NAMES[ruling.unreadable])


cdef bint within(uint64_t offset, uint64_t length, uint64_t size) noexcept nogil:
    return offset <= size and length <= size - offset


cdef int check(const unsigned char *table, uint64_t size) except -1:
    cdef const Header *header = <const Header *>table
    cdef int i
    if memcmp(header.magic, b"NLB-RULE", sizeof(header.magic)) != 0:
        raise ValueError("not a table of rules")
    if header.version != TABLE_VERSION:
        raise ValueError(f"a table of rules of version {header.version}, not {TABLE_VERSION}")
    if header.size != size:
        raise ValueError("a table of rules that is cut off")
    for i in range(2):
        if header.sets[i] and not sound(table, header.sets[i], size):
            raise ValueError("a damaged table of rules")
    return 0


cdef bint sound(const unsigned char *table, uint64_t offset, uint64_t size) noexcept nogil:
    """Whether nothing in a set leads out of the table, and every search in it ends."""
    cdef const Set *rules = <const Set *>(table + offset)
    cdef const uint32_t *slots
    cdef const uint64_t *texts
    cdef const Entry *entry
    cdef uint32_t i
    cdef bint empty = False
    if offset % 8 or not within(offset, sizeof(Set), size):
        return False
    if (rules.mask & (rules.mask + 1) or rules.slots % 8 or rules.entries % 8
            or not within(rules.slots, (<uint64_t>rules.mask + 1) * sizeof(uint32_t), size)
            or not within(rules.entries, <uint64_t>rules.count * sizeof(Entry), size)
            or rules.texts % 8 or not within(rules.texts, <uint64_t>rules.rules * sizeof(uint64_t), size)):
        return False
    slots = <const uint32_t *>(table + rules.slots)
    for i in range(rules.mask + 1):
        empty = empty or slots[i] == 0
        if slots[i] > rules.count:
            return False
    for i in range(rules.count):
        entry = <const Entry *>(table + rules.entries) + i
        if (entry.kind >= KINDS or entry.place > BEHIND or entry.more and i + 1 == rules.count
                or not within(entry.key, key_bytes(entry), size)
                or not within(entry.pattern, entry.pattern_size, size) or entry.pattern_size > LONGEST_NAME
                or entry.rule >= rules.rules):
            return False
    texts = <const uint64_t *>(table + rules.texts)
    for i in range(rules.rules):
        if texts[i] >= size or memchr(table + texts[i], 0, min(size - texts[i], <uint64_t>TEXT)) == NULL:
            return False
    return empty


cdef uint64_t key_bytes(const Entry *entry) noexcept nogil:
    if entry.kind == IP4:
        return 4
    return 16 if entry.kind == IP6 else entry.key_size
